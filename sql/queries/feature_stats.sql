-- name: feature_stats
SELECT e.name || '@' || e.revision, e.views, e.dimension, e.tokens, f.kind, f.layout, f.dtype, f.scans, f.rows, f.bytes,
       f.payload_bytes, f.unit_rows, f.unit_bytes, f.unit_payload_bytes
FROM feature_stats_v1(%(dataset)s, %(encoder)s) f
JOIN encoder e USING (encoder_id)
ORDER BY e.name, e.revision, f.kind, f.layout, f.dtype

-- name: feature_units
SELECT e.name || '@' || e.revision, f.kind, f.units, f.unit_things, f.things
FROM feature_units_v1(%(dataset)s, %(encoder)s) f
JOIN encoder e USING (encoder_id)
