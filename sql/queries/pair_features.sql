-- name: pair_feature_clear
-- All features of a scan's pairs by an encoder, or those of some pairs; their tokens go with them.
DELETE FROM pair_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s
  AND (%(a)s::integer[] IS NULL
       OR (instance_a, instance_b) IN (SELECT * FROM unnest(%(a)s::integer[], %(b)s::integer[])))

-- name: pair_feature_looks
-- How many looks are behind each embedding.
SELECT instance_a, instance_b, cardinality(frame_nos)
FROM pair_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s
ORDER BY instance_a, instance_b

-- name: pair_tokens_read
-- Of the pairs asked for, those that are there, in the order they were asked for.
SELECT f.instance_a, f.instance_b, CASE WHEN t.scan_id IS NULL THEN f.embedding END,
       t.layout, t.dtype, t.packing, t.tokens, t.scales
FROM unnest(%(a)s::integer[], %(b)s::integer[]) WITH ORDINALITY AS asked (instance_a, instance_b, place)
JOIN pair_feature f USING (instance_a, instance_b)
LEFT JOIN pair_tokens t
    ON (t.scan_id, t.encoder_id, t.instance_a, t.instance_b)
       = (f.scan_id, f.encoder_id, f.instance_a, f.instance_b)
WHERE f.scan_id = %(scan_id)s AND f.encoder_id = %(encoder_id)s
ORDER BY asked.place

-- name: scan_key
SELECT d.name || '/' || s.name
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE s.scan_id = %(scan_id)s
