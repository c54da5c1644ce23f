-- name: watch_client
-- Over TCP, drop a session whose machine has been silent for 20 s; on a local socket these settings do nothing.
SELECT set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '2', false)

-- name: jobs_queued
-- Of these pieces of work, those that wait or run already.
SELECT queueing_lock
FROM open3dsg_queue.procrastinate_jobs
WHERE status IN ('todo', 'doing') AND queueing_lock = ANY (%(locks)s)

-- name: jobs_matching
-- Items with their latest attempt, first in first.
SELECT j.id, j.status::text, j.queue_name, j.args, j.scheduled_at,
       (SELECT min(e.at) FROM open3dsg_queue.procrastinate_events e
        WHERE e.job_id = j.id AND e.type = 'deferred'),
       (SELECT count(*) FROM open3dsg_queue.attempt a WHERE a.job_id = j.id),
       l.worker, l.ended_at - l.started_at, l.reason
FROM open3dsg_queue.procrastinate_jobs j
LEFT JOIN LATERAL (SELECT * FROM open3dsg_queue.attempt a WHERE a.job_id = j.id
                   ORDER BY a.attempt DESC LIMIT 1) AS l ON true
WHERE j.task_name = 'open3dsg.item'
  AND (%(ids)s::bigint[] IS NULL OR j.id = ANY (%(ids)s))
  AND (%(statuses)s::text[] IS NULL OR j.status::text = ANY (%(statuses)s))
  AND (%(step)s::text IS NULL OR j.args ->> 'step' = %(step)s)
ORDER BY j.id

-- name: jobs_by_status
SELECT status::text, count(*) FROM open3dsg_queue.procrastinate_jobs WHERE task_name = 'open3dsg.item' GROUP BY 1

-- name: job_attempts
SELECT attempt, worker, started_at, ended_at, outcome, reason, trace
FROM open3dsg_queue.attempt
WHERE job_id = %(job_id)s
ORDER BY attempt

-- name: queues_known
SELECT DISTINCT queue_name FROM open3dsg_queue.procrastinate_jobs ORDER BY 1

-- name: attempts_forgive
UPDATE open3dsg_queue.attempt SET is_forgiven = true WHERE job_id = %(job_id)s

-- name: attempt_start
INSERT INTO open3dsg_queue.attempt (job_id, attempt, worker)
SELECT %(job_id)s, coalesce(max(attempt), 0) + 1, %(worker)s
FROM open3dsg_queue.attempt
WHERE job_id = %(job_id)s
RETURNING attempt

-- name: attempt_end
UPDATE open3dsg_queue.attempt
SET ended_at = clock_timestamp(), outcome = %(outcome)s, reason = %(reason)s, trace = %(trace)s
WHERE job_id = %(job_id)s AND attempt = %(attempt)s AND ended_at IS NULL
RETURNING attempt

-- name: attempt_open
SELECT max(attempt) AS attempt FROM open3dsg_queue.attempt WHERE job_id = %(job_id)s AND ended_at IS NULL

-- name: attempt_history
SELECT count(*) FILTER (WHERE outcome = ANY (%(counted)s)) AS counted,
       coalesce(extract(epoch FROM clock_timestamp() - min(started_at) FILTER (WHERE outcome = 'away')), 0)::float8
           AS away_for_s
FROM open3dsg_queue.attempt
WHERE job_id = %(job_id)s AND NOT is_forgiven

-- name: job_is_mine
SELECT EXISTS (SELECT FROM open3dsg_queue.procrastinate_jobs
               WHERE id = %(job_id)s AND status = 'doing' AND worker_id = %(worker_id)s) AS mine

-- name: jobs_left
-- Items that wait or run in some queues, or in all; those in `handed_back` are left out.
SELECT count(*) AS "left"
FROM open3dsg_queue.procrastinate_jobs
WHERE status IN ('todo', 'doing')
  AND (%(queues)s::text[] IS NULL OR queue_name = ANY (%(queues)s))
  AND NOT (status = 'todo' AND id = ANY (%(handed_back)s::bigint[]))

-- name: jobs_fetch
-- The next item that waits becomes this worker's; as procrastinate's own function, but for those passed over.
UPDATE open3dsg_queue.procrastinate_jobs
SET status = 'doing', worker_id = %(worker_id)s
WHERE id = (SELECT id
            FROM open3dsg_queue.procrastinate_jobs
            WHERE status = 'todo'
              AND task_name = 'open3dsg.item'
              AND (scheduled_at IS NULL OR scheduled_at <= now())
              AND (%(queues)s::text[] IS NULL OR queue_name = ANY (%(queues)s))
              AND NOT id = ANY (%(passed_over)s::bigint[])
            ORDER BY priority DESC, id
            LIMIT 1
            FOR UPDATE SKIP LOCKED)
RETURNING *

-- name: jobs_adopt
-- Items of workers that have been silent for too long become this worker's. Of several who try, one gets each.
UPDATE open3dsg_queue.procrastinate_jobs j
SET worker_id = %(worker_id)s
WHERE j.status = 'doing'
  AND j.task_name = 'open3dsg.item'
  AND (j.worker_id IS NULL
       OR j.worker_id IN (SELECT w.id
                          FROM open3dsg_queue.procrastinate_workers w
                          WHERE w.last_heartbeat < now() - make_interval(secs => %(silent_s)s)
                            AND w.id <> %(worker_id)s))
RETURNING j.*
