-- name: count_other_sessions
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()

-- name: server_parameters
-- Those that the server does not know, as parameters of ours on a server elsewhere, come back without a value.
SELECT name, current_setting(name, true), coalesce(s.context = 'postmaster', false), coalesce(s.pending_restart, false)
FROM unnest(%(names)s::text[]) WITH ORDINALITY AS asked (name, place)
LEFT JOIN pg_settings s USING (name)
ORDER BY place

-- name: reload_configuration
SELECT pg_reload_conf()

-- name: vector_version
SELECT extversion FROM pg_extension WHERE extname = 'vector'
