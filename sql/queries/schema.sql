-- name: has_table
SELECT to_regclass(%(name)s) IS NOT NULL

-- name: has_vector_type
SELECT to_regtype('halfvec') IS NOT NULL

-- name: create_vector_extension
CREATE EXTENSION vector

-- name: load_vector_library
SELECT '[1]'::vector

-- name: lock_migration
SELECT pg_advisory_xact_lock(hashtextextended('open3dsg:migration', 0))

-- name: limit_lock_wait
SELECT set_config('lock_timeout', %(timeout)s, true)

-- name: schema_revision
SELECT version_num FROM alembic_version

-- name: store_meta_value
SELECT value FROM store_meta WHERE key = %(key)s

-- name: store_meta_set
INSERT INTO store_meta (key, value)
VALUES (%(key)s, %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: store_meta_delete
DELETE FROM store_meta WHERE key = %(key)s
