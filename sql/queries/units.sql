-- name: unit_head
-- Points are written anew as a whole: the transaction that wrote the first block tells which ones they are.
SELECT g.method, g.max_distance_m,
       (SELECT bool_and(NOT l.stale)
        FROM ledger l
        WHERE l.scan_id = g.scan_id
          AND l.step = 'graph'
          AND l.variant = CASE g.method WHEN 'full' THEN 'full' ELSE 'subgraphs' END) AS built,
       (SELECT b.xmin::text FROM point_block b WHERE (b.scan_id, b.block_no) = (g.scan_id, 0)) AS points_written
FROM subgraph g
WHERE g.scan_id = %(scan_id)s AND g.subgraph_no = %(subgraph_no)s

-- name: unit_numbers
SELECT subgraph_no FROM subgraph WHERE scan_id = %(scan_id)s ORDER BY subgraph_no

-- name: unit_members
-- A prefix of a sample is a sample: no more of it is read than is asked for.
SELECT m.instance_no, m.label_id, t.text AS label, i.point_count,
       i.aabb_min_m, i.aabb_max_m, i.obb_centre_m, i.obb_axes, i.obb_lengths_m,
       s.centre_m, s.scale_m, octet_length(s.point_ids) / 4 AS stored,
       substr(s.point_ids, 1, coalesce(4 * %(points)s::integer, octet_length(s.point_ids))) AS point_ids
FROM subgraph_member m
JOIN instance i USING (scan_id, instance_no)
JOIN term t ON t.term_id = m.label_id
LEFT JOIN instance_sample s USING (scan_id, instance_no)
WHERE m.scan_id = %(scan_id)s AND m.subgraph_no = %(subgraph_no)s
ORDER BY m.instance_no

-- name: unit_observations
SELECT instance_no, frame_no, visible_points, visibility_ratio, pixel_box
FROM observation
WHERE scan_id = %(scan_id)s AND instance_no = ANY (%(numbers)s::integer[])
ORDER BY instance_no, frame_no

-- name: unit_pairs
SELECT instance_a, instance_b, union_points, offset_m, min_distance_m, closest_a, closest_b,
       octet_length(point_ids) / 4 AS stored,
       substr(point_ids, 1, coalesce(4 * %(points)s::integer, octet_length(point_ids))) AS point_ids
FROM pair
WHERE scan_id = %(scan_id)s
  AND instance_a = ANY (%(numbers)s::integer[])
  AND instance_b = ANY (%(numbers)s::integer[])
  AND (%(max_distance_m)s::double precision IS NULL OR min_distance_m <= %(max_distance_m)s)
ORDER BY instance_a, instance_b

-- name: unit_relationships
SELECT r.subject, r.object, t.text AS predicate
FROM v_subgraph_relation r
JOIN term t ON t.term_id = r.predicate_id
WHERE r.scan_id = %(scan_id)s AND r.subgraph = %(subgraph_no)s

-- name: dataset_predicates
-- The dataset's own list, in its order, and behind it what its relations name beside that.
WITH listed AS (
    SELECT t.term_id, t.text, vt.position
    FROM vocabulary v
    JOIN dataset d USING (dataset_id)
    JOIN vocabulary_term vt USING (vocabulary_id)
    JOIN term t USING (term_id)
    WHERE d.name = %(dataset)s AND v.name = d.name || '-predicates'
), named AS (
    SELECT DISTINCT r.predicate_id
    FROM relationship r
    JOIN scan s USING (scan_id)
    JOIN dataset d USING (dataset_id)
    WHERE d.name = %(dataset)s
)
SELECT text, position
FROM (SELECT text, position FROM listed
      UNION ALL
      SELECT t.text, NULL
      FROM named
      JOIN term t ON t.term_id = named.predicate_id
      WHERE NOT EXISTS (SELECT FROM listed WHERE listed.term_id = t.term_id)) AS every
ORDER BY position NULLS LAST, text COLLATE "C"
