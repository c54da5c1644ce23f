-- name: create_node_index
SELECT create_node_index_v1(%(encoder)s)

-- name: create_pair_index
SELECT create_pair_index_v1(%(encoder)s)

-- name: create_index_beside
SELECT create_index_beside_v1(%(encoder)s, %(pairs)s)

-- name: replace_index
SELECT replace_index_v1(%(encoder)s, %(pairs)s)

-- name: try_lock_index
SELECT pg_try_advisory_lock(vector_index_lock_v1(%(encoder_id)s, %(pairs)s))

-- name: unlock_index
SELECT pg_advisory_unlock(vector_index_lock_v1(%(encoder_id)s, %(pairs)s))

-- name: has_features
SELECT CASE WHEN %(pairs)s THEN EXISTS (SELECT FROM pair_feature WHERE encoder_id = %(encoder_id)s)
            ELSE EXISTS (SELECT FROM node_feature WHERE encoder_id = %(encoder_id)s) END
