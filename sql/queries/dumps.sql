-- name: dump_instances
-- The instances of a scan that an encoder may be shown.
SELECT instance_no FROM instance WHERE scan_id = %(scan_id)s AND point_count > 0 ORDER BY instance_no

-- name: dump_sightings
-- What is seen in which frame, how much of it, where, and how many pixels the frame's grid has.
SELECT o.instance_no, o.frame_no, o.visibility_ratio,
       o.pixel_box[1], o.pixel_box[2], o.pixel_box[3], o.pixel_box[4],
       f.depth_size[1]::bigint * f.depth_size[2]
FROM observation o
JOIN frame f USING (scan_id, frame_no)
WHERE o.scan_id = %(scan_id)s
ORDER BY o.instance_no, o.frame_no

-- name: dump_pixels
-- The pixels of some observations.
SELECT instance_no, frame_no, o.pixels
FROM unnest(%(instances)s::integer[], %(frames)s::integer[]) AS wanted (instance_no, frame_no)
JOIN observation o USING (instance_no, frame_no)
WHERE o.scan_id = %(scan_id)s

-- name: dump_chunks
-- The chunks that are done, with their number and size when they were.
SELECT chunk, chunks, (counts ->> 'chunk_items')::integer
FROM ledger
WHERE scan_id = %(scan_id)s
  AND step = %(step)s
  AND variant = %(variant)s
  AND step_version = %(step_version)s
  AND options_hash = %(options_hash)s
  AND NOT stale

-- name: dump_chunks_forget_other
-- Chunks of another size, cut before it was changed: their rows stay, and count for the new ones.
DELETE FROM ledger
WHERE scan_id = %(scan_id)s
  AND step = %(step)s
  AND variant = %(variant)s
  AND (counts ->> 'chunk_items')::integer IS DISTINCT FROM %(chunk_items)s

-- name: is_paired
-- No row or null: never; false: only with pairs of instances that changed since.
SELECT bool_or(NOT stale) FROM ledger WHERE scan_id = %(scan_id)s AND step = 'graph'

-- name: pair_features_drop_orphans
-- Of pairs that the scan has no longer.
DELETE FROM pair_feature f
WHERE f.scan_id = %(scan_id)s
  AND NOT EXISTS (SELECT FROM pair p
                  WHERE (p.scan_id, p.instance_a, p.instance_b) = (f.scan_id, f.instance_a, f.instance_b))
