-- name: triplet_frames
SELECT pair_frames_v1(s.scan_id, %(subject)s, %(object)s, 5)
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE d.name = %(dataset)s AND s.name = %(scan)s
