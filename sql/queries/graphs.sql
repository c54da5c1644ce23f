-- name: graph_options
-- The options of what was built of a scan, by variant.
SELECT variant, options FROM ledger WHERE scan_id = %(scan_id)s AND step = 'graph'

-- name: graph_instances
-- Instances of a scan that have points: label and both boxes.
SELECT instance_no, label_id, aabb_min_m, aabb_max_m, obb_centre_m, obb_axes, obb_lengths_m
FROM instance
WHERE scan_id = %(scan_id)s AND point_count > 0
ORDER BY instance_no

-- name: graph_members
-- The objects of the graph of the whole scan, or of all other subgraphs.
SELECT m.subgraph_no, m.instance_no
FROM subgraph_member m
JOIN subgraph g USING (scan_id, subgraph_no)
WHERE m.scan_id = %(scan_id)s AND (g.method = 'full') = %(full)s
ORDER BY m.subgraph_no, m.instance_no

-- name: has_given_subgraphs
SELECT EXISTS (SELECT FROM subgraph WHERE scan_id = %(scan_id)s AND method = '3dssg')

-- name: graph_clear
-- Built subgraphs: of all methods, or of one.
DELETE FROM subgraph
WHERE scan_id = %(scan_id)s AND method <> '3dssg' AND (%(method)s::text IS NULL OR method = %(method)s)

-- name: unit_rows_clear
-- What the subgraphs of a scan share.
WITH samples AS (DELETE FROM instance_sample WHERE scan_id = %(scan_id)s)
DELETE FROM pair WHERE scan_id = %(scan_id)s

-- name: pair_keys
SELECT instance_a, instance_b FROM pair WHERE scan_id = %(scan_id)s ORDER BY instance_a, instance_b

-- name: sampled_instances
SELECT instance_no FROM instance_sample WHERE scan_id = %(scan_id)s

-- name: sample_set_neighbours
UPDATE instance_sample
SET neighbours = %(neighbours)s::integer[]
WHERE scan_id = %(scan_id)s AND instance_no = %(number)s AND neighbours <> %(neighbours)s::integer[]

-- name: pairs_drop_orphans
-- Pairs that belong to no subgraph any more.
DELETE FROM pair p
WHERE p.scan_id = %(scan_id)s
  AND NOT EXISTS (
      SELECT FROM subgraph g
      JOIN subgraph_member a ON (a.scan_id, a.subgraph_no, a.instance_no) = (g.scan_id, g.subgraph_no, p.instance_a)
      JOIN subgraph_member b ON (b.scan_id, b.subgraph_no, b.instance_no) = (g.scan_id, g.subgraph_no, p.instance_b)
      WHERE g.scan_id = p.scan_id AND (g.max_distance_m IS NULL OR p.min_distance_m <= g.max_distance_m))

-- name: subgraphs_unusable
-- Of a variant that is being built: what is wrong with its subgraphs, whatever the ledger does not say yet.
SELECT subgraph, reason, objects, objects_with_points, visible_objects
FROM v_subgraph
WHERE scan_id = %(scan_id)s
  AND (method = 'full') = %(full)s
  AND reason NOT IN ('not built', 'stale')
ORDER BY subgraph

-- name: subgraph_rows
SELECT dataset, scan, split, subgraph, method, objects, objects_with_points, visible_objects, pairs, relations, reason
FROM v_subgraph
WHERE (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
  AND (%(split)s::text IS NULL OR %(split)s IN (split, 'all'))
  AND (%(scan_id)s::bigint IS NULL OR scan_id = %(scan_id)s)
ORDER BY dataset COLLATE "C", scan COLLATE "C", subgraph
