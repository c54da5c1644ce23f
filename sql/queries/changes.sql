-- name: rescan_objects_clear
DELETE FROM rescan_object WHERE scan_id = %(scan_id)s

-- name: visits
-- How two scans are compared: whether their objects keep their numbers, and what maps the first into the second.
SELECT keep_numbers_v1(%(a)s, %(b)s),
       coalesce(%(t_b_a)s::double precision[], visits_transform_v1(%(a)s, %(b)s))

-- name: rescan_diff
SELECT change, instance_a, label_a, centroid_a_m, instance_b, label_b, centroid_b_m, expected_b_m, shift_m,
       distance_m, similarity, annotated, annotated_m, annotated_degrees
FROM rescan_diff_v1(%(a)s, %(b)s, %(t_b_a)s, %(moved_m)s, %(reach_m)s, %(encoder)s)

-- name: annotated_members
-- In which subgraphs of the annotations the instances of a scan are.
SELECT m.instance_no, array_agg(m.subgraph_no)
FROM subgraph_member m
JOIN subgraph g USING (scan_id, subgraph_no)
WHERE m.scan_id = %(scan_id)s AND g.method = '3dssg'
GROUP BY m.instance_no
