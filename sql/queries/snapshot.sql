-- name: begin_snapshot
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: transaction_isolation
SELECT current_setting('transaction_isolation')
