-- name: queue_is_whole
SELECT bool_and(to_regclass('open3dsg_queue.' || name) IS NOT NULL)
FROM unnest(ARRAY['procrastinate_jobs', 'procrastinate_events', 'procrastinate_workers',
                  'procrastinate_periodic_defers', 'attempt']) AS name

-- name: queue_schema_is_empty
-- Null where there is no such schema.
SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid)
       AND NOT EXISTS (SELECT FROM pg_type WHERE typnamespace = n.oid)
       AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid)
FROM pg_namespace n
WHERE n.nspname = 'open3dsg_queue'

-- name: queue_drop_schema
DROP SCHEMA IF EXISTS open3dsg_queue CASCADE

-- name: queue_create_schema
CREATE SCHEMA open3dsg_queue

-- name: search_path
SELECT current_setting('search_path')

-- name: search_path_set
SELECT set_config('search_path', %(path)s, true)
