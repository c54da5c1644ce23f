-- name: ledger_chunks_done
SELECT chunk
FROM ledger
WHERE scan_id = %(scan_id)s
  AND step = %(step)s
  AND variant = %(variant)s
  AND step_version = %(step_version)s
  AND options_hash = %(options_hash)s
  AND NOT stale

-- name: ledger_record
-- Chunks beyond the last one are of a time when the work had more of them.
WITH beyond AS (DELETE FROM ledger
                WHERE scan_id = %(scan_id)s AND step = %(step)s AND variant = %(variant)s AND chunk >= %(chunks)s)
INSERT INTO ledger (scan_id, step, variant, chunk, step_version, options_hash, options, chunks, counts, problems)
VALUES (%(scan_id)s, %(step)s, %(variant)s, %(chunk)s, %(step_version)s, %(options_hash)s,
        %(options)s, %(chunks)s, %(counts)s, %(problems)s)
ON CONFLICT (scan_id, step, variant, chunk) DO UPDATE
SET step_version = excluded.step_version,
    options_hash = excluded.options_hash,
    options = excluded.options,
    chunks = excluded.chunks,
    counts = excluded.counts,
    problems = excluded.problems,
    finished_at = now(),
    stale = false

-- name: ledger_other_options
SELECT options, step_version
FROM ledger
WHERE scan_id = %(scan_id)s AND step = %(step)s AND variant = %(variant)s AND options_hash <> %(options_hash)s
LIMIT 1

-- name: ledger_forget
DELETE FROM ledger
WHERE scan_id = %(scan_id)s
  AND step = ANY (%(steps)s)
  AND (%(variant)s::text IS NULL OR variant = %(variant)s)

-- name: ledger_mark_stale
UPDATE ledger SET stale = true WHERE scan_id = %(scan_id)s AND step = ANY (%(steps)s)

-- name: ledger_is_begun
SELECT EXISTS (SELECT FROM ledger
               WHERE scan_id = %(scan_id)s
                 AND step = %(step)s
                 AND variant = %(variant)s
                 AND step_version = %(step_version)s
                 AND options_hash = %(options_hash)s)

-- name: try_lock_scan
SELECT pg_try_advisory_lock(hashtextextended('open3dsg:' || %(name)s, 0))

-- name: lock_scan
SELECT CASE WHEN %(shared)s::boolean THEN pg_advisory_lock_shared(hashtextextended('open3dsg:' || %(name)s, 0))
            ELSE pg_advisory_lock(hashtextextended('open3dsg:' || %(name)s, 0)) END

-- name: unlock_scan
SELECT CASE WHEN %(shared)s::boolean THEN pg_advisory_unlock_shared(hashtextextended('open3dsg:' || %(name)s, 0))
            ELSE pg_advisory_unlock(hashtextextended('open3dsg:' || %(name)s, 0)) END
