-- Copies of the scans of the dataset `made`, each named after its number, into the dataset `many`: as many as
-- the setting bench.scans says, with pooled features of pairs and no tokens, and without units. A tenth of them
-- is there to validate on.

INSERT INTO dataset (name, layout, root)
SELECT 'many', layout, root FROM dataset WHERE name = 'made';

CREATE TEMPORARY TABLE copied AS
SELECT scan_id AS old_id, nextval(pg_get_serial_sequence('scan', 'scan_id')) AS new_id, time
FROM (SELECT s.scan_id, time
      FROM generate_series(1, current_setting('bench.scans')::integer) AS time
      CROSS JOIN scan s
      ORDER BY time, s.scan_id
      LIMIT current_setting('bench.scans')::integer) AS chosen;

INSERT INTO scan (scan_id, dataset_id, name, split, point_count, colour_source)
OVERRIDING SYSTEM VALUE
SELECT new_id, (SELECT dataset_id FROM dataset WHERE name = 'many'), new_id,
       CASE WHEN new_id % 10 = 0 THEN 'validation' ELSE 'train' END, point_count, colour_source
FROM copied
JOIN scan ON scan_id = old_id;

INSERT INTO point_block (scan_id, block_no, point_count, xyz_m, rgb, instance_no, normals)
SELECT new_id, block_no, point_count, xyz_m, rgb, instance_no, normals
FROM copied
JOIN point_block ON scan_id = old_id;

INSERT INTO frame (scan_id, frame_no, image_uri, image_size, image_intrinsics, t_world_camera)
SELECT new_id, frame_no, image_uri, image_size, image_intrinsics, t_world_camera
FROM copied
JOIN frame ON scan_id = old_id;

INSERT INTO instance
    (scan_id, instance_no, label_id, point_count, centroid_m, aabb_min_m, aabb_max_m, obb_centre_m, obb_axes,
     obb_lengths_m)
SELECT new_id, instance_no, label_id, point_count, centroid_m, aabb_min_m, aabb_max_m, obb_centre_m, obb_axes,
       obb_lengths_m
FROM copied
JOIN instance ON scan_id = old_id;

INSERT INTO observation
    (scan_id, instance_no, frame_no, visible_points, unique_pixels, visibility_ratio, pixel_box, pixels)
SELECT new_id, instance_no, frame_no, visible_points, unique_pixels, visibility_ratio, pixel_box, pixels
FROM copied
JOIN observation ON scan_id = old_id;

INSERT INTO instance_sample (scan_id, instance_no, point_ids, centre_m, scale_m, neighbours)
SELECT new_id, instance_no, point_ids, centre_m, scale_m, neighbours
FROM copied
JOIN instance_sample ON scan_id = old_id;

INSERT INTO pair
    (scan_id, instance_a, instance_b, point_ids, union_points, offset_m, min_distance_m, closest_a, closest_b)
SELECT new_id, instance_a, instance_b, point_ids, union_points, offset_m, min_distance_m, closest_a, closest_b
FROM copied
JOIN pair ON scan_id = old_id;

INSERT INTO node_feature (scan_id, encoder_id, instance_no, embedding, frame_nos, boxes, weights)
SELECT new_id, encoder_id, instance_no, embedding, frame_nos, boxes, weights
FROM copied
JOIN node_feature ON scan_id = old_id;

INSERT INTO pair_feature (scan_id, encoder_id, instance_a, instance_b, embedding, frame_nos, boxes, weights)
SELECT new_id, encoder_id, instance_a, instance_b, embedding, frame_nos, boxes, weights
FROM copied
JOIN pair_feature ON scan_id = old_id
JOIN encoder USING (encoder_id)
WHERE tokens IS NULL;

INSERT INTO ledger (scan_id, step, variant, chunk, step_version, options_hash, options, chunks, counts, problems)
SELECT new_id, step, variant, chunk, step_version, options_hash, options, chunks, counts, problems
FROM copied
JOIN ledger ON scan_id = old_id;
