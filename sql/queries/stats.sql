-- name: storage_report
SELECT name, rows, bytes, index_bytes FROM storage_report_v1() ORDER BY bytes + index_bytes DESC

-- name: database_bytes
SELECT pg_database_size(current_database())
