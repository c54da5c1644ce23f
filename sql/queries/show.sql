-- name: best_sightings
-- The frames that show each instance best, in the order of `best_observations`; photograph by photograph.
SELECT o.instance_no, o.place, o.frame_no, o.visible_points, o.unique_pixels, o.visibility_ratio,
       o.pixel_box, o.pixels, f.image_uri, f.image_size, f.image_intrinsics, f.depth_size, f.depth_intrinsics
FROM (SELECT o.*,
             row_number() OVER (PARTITION BY o.instance_no
                                ORDER BY o.visibility_ratio DESC, o.visible_points DESC, o.frame_no) AS place
      FROM observation o
      WHERE o.scan_id = %(scan_id)s
        AND (%(numbers)s::integer[] IS NULL OR o.instance_no = ANY (%(numbers)s::integer[]))) AS o
JOIN frame f ON (f.scan_id, f.frame_no) = (o.scan_id, o.frame_no)
WHERE o.place <= %(top_k)s
ORDER BY o.frame_no, o.instance_no

-- name: observe_options
SELECT options FROM ledger WHERE scan_id = %(scan_id)s AND step = 'observe'

-- name: scans_observed
-- Of each scan whether its observations are there and up to date, and its instances that have points.
SELECT s.scan_id,
       d.name || '/' || s.name AS key,
       EXISTS (SELECT FROM ledger l WHERE l.scan_id = s.scan_id AND l.step = 'observe' AND NOT l.stale),
       (SELECT count(*) FROM instance i WHERE i.scan_id = s.scan_id AND i.point_count > 0)
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE d.name || '/' || s.name = ANY (%(keys)s)
ORDER BY d.name, s.name

-- name: instances_missing
SELECT m.dataset || '/' || m.scan, m.instance, m.label, m.point_count
FROM missing_frames_v1() AS m
WHERE m.scan_id = ANY (%(scan_ids)s) AND m.point_count > 0
ORDER BY m.dataset, m.scan, m.instance
