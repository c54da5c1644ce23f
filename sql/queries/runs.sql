-- name: run_add
-- No row: the name is taken.
INSERT INTO run (name, status, options, node_encoder_id, relation_encoder_id, words_encoder_id, targets,
                 predicates, units, manifest, code_revision)
VALUES (%(name)s, 'running', %(options)s, %(node_encoder_id)s, %(relation_encoder_id)s, %(words_encoder_id)s,
        %(targets)s, %(predicates)s, %(units)s, %(manifest)s, %(code_revision)s)
ON CONFLICT (name) DO NOTHING
RETURNING run_id

-- name: run_names
SELECT name FROM run ORDER BY started_at, run_id

-- name: run_find
SELECT r.run_id, r.name, v.status, r.message, r.options, r.targets, r.predicates, r.manifest, r.code_revision,
       r.step, r.epoch, r.started_at, r.updated_at, r.node_encoder_id, r.relation_encoder_id, r.words_encoder_id
FROM run r
JOIN v_run v USING (run_id)
WHERE r.name = %(name)s

-- name: run_encoder
SELECT encoder_id, name, revision, dimension, is_active FROM encoder WHERE encoder_id = %(encoder_id)s

-- name: run_lines
SELECT run, status, dataset, encoder, relation_encoder, targets, step, epoch, best_val_loss, checkpoints,
       predictions, started_at, updated_at
FROM v_run
ORDER BY started_at, run_id

-- name: run_units
SELECT units FROM run WHERE run_id = %(run_id)s

-- name: run_set
UPDATE run
SET status = %(status)s, message = %(message)s, step = %(step)s, epoch = %(epoch)s, updated_at = now()
WHERE run_id = %(run_id)s

-- name: run_metrics_add
-- Of a name and step that is told twice, the last.
INSERT INTO run_metric (run_id, name, step, epoch, value)
SELECT DISTINCT ON (name, step) %(run_id)s, name, step, epoch, value
FROM unnest(%(names)s::text[], %(steps)s::integer[], %(epochs)s::integer[], %(values)s::double precision[])
     WITH ORDINALITY AS told (name, step, epoch, value, place)
ORDER BY name, step, place DESC
ON CONFLICT (run_id, name, step) DO UPDATE SET epoch = excluded.epoch, value = excluded.value

-- name: run_metrics
-- With `points` at most so many of each figure, means of neighbours; NaN where none of them is finite.
SELECT name, round(avg(step))::integer, max(epoch), coalesce(avg(value) FILTER (WHERE value - value = 0), 'NaN')
FROM (SELECT name, step, epoch, value,
             coalesce(ntile(%(points)s::integer) OVER (PARTITION BY name ORDER BY step), step) AS part
      FROM run_metric
      WHERE run_id = %(run_id)s AND (%(names)s::text[] IS NULL OR name = ANY (%(names)s))) AS noted
GROUP BY name, part
ORDER BY name, part

-- name: run_predictions
SELECT p.label, p.source, p.weight_2d, p.checkpoint_step, p.made_at,
       (SELECT count(*) FROM evaluation e WHERE e.prediction_id = p.prediction_id)
FROM prediction p
WHERE p.run_id = %(run_id)s
ORDER BY p.made_at, p.label

-- name: run_evaluations
SELECT p.label, e.protocol, e.options, e.vocabularies, e.metrics, e.scans, e.code_revision, e.made_at
FROM evaluation e
JOIN prediction p USING (prediction_id)
WHERE p.run_id = %(run_id)s
ORDER BY p.label, e.protocol, e.made_at

-- name: run_counts
-- What goes with a run.
SELECT (SELECT count(*) FROM checkpoint c WHERE c.run_id = r.run_id),
       (SELECT count(*) FROM prediction p WHERE p.run_id = r.run_id),
       (SELECT count(*) FROM evaluation e JOIN prediction p USING (prediction_id) WHERE p.run_id = r.run_id)
FROM run r
WHERE r.run_id = %(run_id)s

-- name: run_hold_predictions
-- Waits for those who write some; the next statement then sees what they noted in the ledger.
SELECT FROM prediction WHERE run_id = %(run_id)s FOR UPDATE

-- name: run_delete
-- The ledger knows its predictions by name, so they do not go by themselves.
WITH gone AS (DELETE FROM ledger l
              USING run r
              JOIN prediction p USING (run_id)
              WHERE r.run_id = %(run_id)s AND l.step = 'predict' AND l.variant = r.name || ':' || p.label)
DELETE FROM run WHERE run_id = %(run_id)s

-- name: run_lock
SELECT pg_try_advisory_lock(run_lock_key_v1(%(name)s))

-- name: run_unlock
SELECT pg_advisory_unlock(run_lock_key_v1(%(name)s))

-- name: runs_of_encoder
-- The runs that learn from an encoder, or were compared with its words.
SELECT DISTINCT r.name
FROM run r
LEFT JOIN prediction p USING (run_id)
WHERE %(encoder_id)s IN (r.node_encoder_id, r.relation_encoder_id, r.words_encoder_id,
                         p.node_words_id, p.relation_words_id)
ORDER BY r.name

-- name: run_named
SELECT name, started_at FROM run WHERE run_id = %(run_id)s

-- name: checkpoint_drop_same
-- Those of a step that is saved again.
DELETE FROM checkpoint
WHERE run_id = %(run_id)s AND step = %(step)s
RETURNING val_loss

-- name: checkpoint_unset_last
UPDATE checkpoint SET is_last = false WHERE run_id = %(run_id)s AND is_last

-- name: checkpoint_add
INSERT INTO checkpoint (run_id, step, epoch, position, val_loss, is_last, size, digest, uri)
VALUES (%(run_id)s, %(step)s, %(epoch)s, %(position)s, %(val_loss)s, %(is_last)s, %(size)s, %(digest)s, %(uri)s)
RETURNING checkpoint_id

-- name: checkpoint_drop_worse
-- All but the last and the best.
DELETE FROM checkpoint
WHERE run_id = %(run_id)s
  AND NOT is_last
  AND checkpoint_id NOT IN (SELECT checkpoint_id
                            FROM checkpoint
                            WHERE run_id = %(run_id)s AND val_loss IS NOT NULL
                            ORDER BY val_loss, step
                            LIMIT %(keep)s)

-- name: checkpoint_uris
SELECT uri FROM checkpoint WHERE run_id = %(run_id)s AND uri IS NOT NULL

-- name: checkpoint_list
SELECT checkpoint_id, run_id, step, epoch, position, val_loss, is_last, size, digest, uri
FROM checkpoint
WHERE run_id = %(run_id)s
ORDER BY step, checkpoint_id

-- name: checkpoint_part
SELECT data FROM checkpoint_part WHERE checkpoint_id = %(checkpoint_id)s AND part_no = %(part_no)s

-- name: run_metric_lines
SELECT name, count(*), last, least, min(step) FILTER (WHERE value = least)
FROM (SELECT name, step, value, last_value(value) OVER of_name AS last, min(value) OVER of_name AS least
      FROM run_metric
      WHERE run_id = %(run_id)s
      WINDOW of_name AS (PARTITION BY name ORDER BY step ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
     ) AS noted
GROUP BY name, last, least
ORDER BY name
