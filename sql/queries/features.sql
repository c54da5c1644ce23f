-- name: encoder_upsert
-- The revision that is used is the one that the bare name means from now on.
WITH others AS (
    UPDATE encoder SET is_active = false
    WHERE name = %(name)s AND revision <> %(revision)s AND is_active
)
INSERT INTO encoder (name, revision, dimension, views, is_active)
VALUES (%(name)s, %(revision)s, %(dimension)s, %(views)s, false)
ON CONFLICT (name, revision) DO UPDATE SET views = excluded.views
RETURNING encoder_id, dimension

-- name: encoder_activate
UPDATE encoder SET is_active = true WHERE encoder_id = %(encoder_id)s

-- name: encoder_find
SELECT encoder_id, name, revision, dimension
FROM encoder
WHERE (name = %(text)s AND is_active) OR name || '@' || revision = %(text)s

-- name: encoders_with_features
SELECT e.name, count(f.*)
FROM encoder e
JOIN node_feature f USING (encoder_id)
WHERE e.is_active
GROUP BY e.name
ORDER BY count(f.*) DESC, e.name

-- name: encoders_known
SELECT name || '@' || revision FROM encoder ORDER BY name, revision

-- name: feature_clear
DELETE FROM node_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s

-- name: is_observed
SELECT EXISTS (SELECT FROM ledger WHERE scan_id = %(scan_id)s AND step = 'observe')

-- name: instances_with_points
SELECT count(*) FROM instance WHERE scan_id = %(scan_id)s AND point_count > 0

-- name: create_node_index
SELECT create_node_index_v1(%(encoder)s)
