-- name: export_nodes
SELECT instance_no, embedding
FROM node_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s AND instance_no = ANY (%(numbers)s::integer[])

-- name: encoder_tokens
SELECT tokens FROM encoder WHERE encoder_id = %(encoder_id)s

-- name: export_feature_options
-- How features were made, by the first scan that they were made of.
SELECT options
FROM ledger
WHERE step = %(step)s AND variant = %(variant)s
ORDER BY scan_id, chunk
LIMIT 1
