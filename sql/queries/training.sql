-- What training asks of the tables of runs, beside runs.sql.

-- name: run_metrics_drop_after
DELETE FROM run_metric WHERE run_id = %(run_id)s AND step > %(step)s

