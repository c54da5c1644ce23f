-- name: frames_to_observe
SELECT frame_no, depth_uri, depth_size, depth_intrinsics, depth_unit_m, t_world_camera
FROM frame
WHERE scan_id = %(scan_id)s AND frame_no %% %(every)s = 0
ORDER BY frame_no

-- name: instances_labelled
SELECT i.instance_no
FROM instance i
JOIN term t ON t.term_id = i.label_id
WHERE i.scan_id = %(scan_id)s AND lower(t.text) = ANY (%(labels)s)

-- name: observation_clear
WITH features AS (DELETE FROM node_feature WHERE scan_id = %(scan_id)s),
     pair_features AS (DELETE FROM pair_feature WHERE scan_id = %(scan_id)s),
     captions AS (DELETE FROM relation_caption WHERE scan_id = %(scan_id)s)
DELETE FROM observation WHERE scan_id = %(scan_id)s

-- name: instances_seen
SELECT instance_no, count(*) FROM observation WHERE scan_id = %(scan_id)s GROUP BY instance_no

-- name: frames_with_cameras
SELECT frame_no, image_uri, image_size, image_intrinsics, depth_size, depth_intrinsics, t_world_camera
FROM frame
WHERE scan_id = %(scan_id)s AND frame_no = ANY (%(frame_nos)s)
