-- name: dataset_find
SELECT dataset_id, root, layout FROM dataset WHERE name = %(name)s

-- name: dataset_add
INSERT INTO dataset (name, layout, root)
VALUES (%(name)s, %(layout)s, %(root)s)
ON CONFLICT (name) DO NOTHING

-- name: dataset_remember
-- Annotations may have come before the folder of the scans was known.
UPDATE dataset
SET root = coalesce(root, %(root)s), arguments = %(arguments)s
WHERE dataset_id = %(dataset_id)s AND (root IS NULL OR arguments IS DISTINCT FROM %(arguments)s)

-- name: scan_find
SELECT s.scan_id
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE d.name = %(dataset)s AND s.name = %(name)s

-- name: scan_upsert
INSERT INTO scan (dataset_id, name, split, reference_name, t_reference_scan)
VALUES (%(dataset_id)s, %(name)s, %(split)s, %(reference_name)s, %(t_reference_scan)s)
ON CONFLICT (dataset_id, name) DO UPDATE
SET split = coalesce(excluded.split, scan.split),
    reference_name = coalesce(excluded.reference_name, scan.reference_name),
    t_reference_scan = coalesce(excluded.t_reference_scan, scan.t_reference_scan)
RETURNING scan_id

-- name: scan_set_geometry
UPDATE scan
SET point_count = %(point_count)s, colour_source = %(colour_source)s
WHERE scan_id = %(scan_id)s

-- name: scan_colour_source
SELECT colour_source FROM scan WHERE scan_id = %(scan_id)s

-- name: geometry_clear
-- Frames take their observations with them; instances stay, since annotations may speak of them.
WITH blocks AS (DELETE FROM point_block WHERE scan_id = %(scan_id)s),
     features AS (DELETE FROM node_feature WHERE scan_id = %(scan_id)s),
     pair_features AS (DELETE FROM pair_feature WHERE scan_id = %(scan_id)s),
     captions AS (DELETE FROM relation_caption WHERE scan_id = %(scan_id)s),
     built AS (DELETE FROM subgraph WHERE scan_id = %(scan_id)s AND method <> '3dssg'),
     samples AS (DELETE FROM instance_sample WHERE scan_id = %(scan_id)s),
     pairs AS (DELETE FROM pair WHERE scan_id = %(scan_id)s)
DELETE FROM frame WHERE scan_id = %(scan_id)s

-- name: has_points
SELECT point_count IS NOT NULL FROM scan WHERE scan_id = %(scan_id)s

-- name: points_clear
DELETE FROM point_block WHERE scan_id = %(scan_id)s

-- name: frame_rows
SELECT scan_id, frame_no, image_uri, image_size, image_intrinsics, depth_uri, depth_size, depth_intrinsics,
       depth_unit_m, t_world_camera
FROM frame
WHERE scan_id = %(scan_id)s
ORDER BY frame_no

-- name: instance_labels
SELECT i.instance_no, t.text
FROM instance i
JOIN term t ON t.term_id = i.label_id
WHERE i.scan_id = %(scan_id)s

-- name: instance_set_labels
UPDATE instance i
SET label_id = new.label_id
FROM unnest(%(numbers)s::integer[], %(label_ids)s::integer[]) AS new (instance_no, label_id)
WHERE i.scan_id = %(scan_id)s AND i.instance_no = new.instance_no

-- name: instance_drop_work
-- What was made of some instances; the steps make it again.
WITH features AS (DELETE FROM node_feature
                  WHERE scan_id = %(scan_id)s AND instance_no = ANY (%(numbers)s::integer[])),
     pair_features AS (DELETE FROM pair_feature
                       WHERE scan_id = %(scan_id)s
                         AND (instance_a = ANY (%(numbers)s::integer[]) OR instance_b = ANY (%(numbers)s::integer[]))),
     captions AS (DELETE FROM relation_caption
                  WHERE scan_id = %(scan_id)s
                    AND (subject_no = ANY (%(numbers)s::integer[]) OR object_no = ANY (%(numbers)s::integer[]))),
     nodes_predicted AS (DELETE FROM node_prediction
                         WHERE scan_id = %(scan_id)s AND instance_no = ANY (%(numbers)s::integer[])),
     edges_predicted AS (DELETE FROM edge_prediction
                         WHERE scan_id = %(scan_id)s
                           AND (subject_no = ANY (%(numbers)s::integer[]) OR object_no = ANY (%(numbers)s::integer[]))),
     samples AS (DELETE FROM instance_sample
                 WHERE scan_id = %(scan_id)s AND instance_no = ANY (%(numbers)s::integer[])),
     pairs AS (DELETE FROM pair
               WHERE scan_id = %(scan_id)s
                 AND (instance_a = ANY (%(numbers)s::integer[]) OR instance_b = ANY (%(numbers)s::integer[])))
DELETE FROM observation WHERE scan_id = %(scan_id)s AND instance_no = ANY (%(numbers)s::integer[])

-- name: built_members_follow
-- Members of built subgraphs are called as the instance is; given ones keep the labels of the annotations.
UPDATE subgraph_member m
SET label_id = i.label_id
FROM instance i, subgraph g
WHERE m.scan_id = %(scan_id)s
  AND (i.scan_id, i.instance_no) = (m.scan_id, m.instance_no)
  AND (g.scan_id, g.subgraph_no) = (m.scan_id, m.subgraph_no)
  AND g.method <> '3dssg'
  AND m.label_id <> i.label_id

-- name: observed_surfaces
-- The labels that the scan's observations took for large surfaces.
SELECT options -> 'surfaces' FROM ledger WHERE scan_id = %(scan_id)s AND step = 'observe'

-- name: work_counts
SELECT (SELECT count(*) FROM observation WHERE scan_id = %(scan_id)s) AS observations,
       (SELECT count(*) FROM node_feature WHERE scan_id = %(scan_id)s) AS features,
       (SELECT count(*) FROM pair WHERE scan_id = %(scan_id)s) AS pairs,
       (SELECT count(*) FROM pair_feature WHERE scan_id = %(scan_id)s) AS pair_features,
       (SELECT count(*) FROM relation_caption WHERE scan_id = %(scan_id)s) AS captions

-- name: instance_staging
CREATE TEMPORARY TABLE instance_staging (LIKE instance) ON COMMIT DROP

-- name: instance_staging_drop
DROP TABLE instance_staging

-- name: instance_retire
-- Instances that the new geometry lacks: gone, or without geometry where annotations still name them.
WITH lacking AS (
    SELECT i.instance_no,
           EXISTS (SELECT FROM subgraph_member m
                   JOIN subgraph g USING (scan_id, subgraph_no)
                   WHERE (m.scan_id, m.instance_no) = (i.scan_id, i.instance_no)
                     AND g.method = '3dssg') AS annotated
    FROM instance i
    WHERE i.scan_id = %(scan_id)s
      AND NOT EXISTS (SELECT FROM instance_staging n WHERE n.instance_no = i.instance_no)
), emptied AS (
    UPDATE instance i
    SET point_count = 0, centroid_m = NULL, aabb_min_m = NULL, aabb_max_m = NULL,
        obb_centre_m = NULL, obb_axes = NULL, obb_lengths_m = NULL
    FROM lacking
    WHERE i.scan_id = %(scan_id)s AND i.instance_no = lacking.instance_no AND lacking.annotated
)
DELETE FROM instance i
USING lacking
WHERE i.scan_id = %(scan_id)s AND i.instance_no = lacking.instance_no AND NOT lacking.annotated

-- name: instance_merge
INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m, aabb_min_m, aabb_max_m,
                      obb_centre_m, obb_axes, obb_lengths_m)
SELECT scan_id, instance_no, label_id, point_count, centroid_m, aabb_min_m, aabb_max_m,
       obb_centre_m, obb_axes, obb_lengths_m
FROM instance_staging
ON CONFLICT (scan_id, instance_no) DO UPDATE
SET label_id = excluded.label_id,
    point_count = excluded.point_count,
    centroid_m = excluded.centroid_m,
    aabb_min_m = excluded.aabb_min_m,
    aabb_max_m = excluded.aabb_max_m,
    obb_centre_m = excluded.obb_centre_m,
    obb_axes = excluded.obb_axes,
    obb_lengths_m = excluded.obb_lengths_m

-- name: annotation_clear
-- Given subgraphs, and windows in their stead; the graph of the whole scan does without.
DELETE FROM subgraph WHERE scan_id = %(scan_id)s AND method <> 'full'

-- name: units_of_subgraphs_clear
-- The samples and pairs of a scan, but for those of the graph of the whole scan.
WITH built AS (
    SELECT max_distance_m FROM subgraph WHERE scan_id = %(scan_id)s AND method = 'full'
), samples AS (
    DELETE FROM instance_sample WHERE scan_id = %(scan_id)s AND NOT EXISTS (SELECT FROM built)
)
DELETE FROM pair
WHERE scan_id = %(scan_id)s
  AND NOT EXISTS (SELECT FROM built WHERE max_distance_m IS NULL OR min_distance_m <= max_distance_m)

-- name: instance_drop_unnamed
-- Instances without points that neither the scan's own labels nor any annotation name.
DELETE FROM instance i
WHERE i.scan_id = %(scan_id)s
  AND i.point_count = 0
  AND i.instance_no <> ALL (%(named)s::integer[])
  AND (%(whole)s OR EXISTS (SELECT FROM scan s WHERE s.scan_id = i.scan_id AND s.point_count IS NULL))
  AND NOT EXISTS (SELECT FROM subgraph_member m
                  JOIN subgraph g USING (scan_id, subgraph_no)
                  WHERE (m.scan_id, m.instance_no) = (i.scan_id, i.instance_no) AND g.method = '3dssg')

-- name: instance_add_without_geometry
-- Objects that only the annotations know of.
INSERT INTO instance (scan_id, instance_no, label_id, point_count)
SELECT %(scan_id)s, new.instance_no, new.label_id, 0
FROM unnest(%(numbers)s::integer[], %(label_ids)s::integer[]) AS new (instance_no, label_id)
ON CONFLICT (scan_id, instance_no) DO NOTHING

-- name: point_blocks
SELECT xyz_m, rgb, instance_no, normals FROM point_block WHERE scan_id = %(scan_id)s ORDER BY block_no

-- name: scan_by_text
SELECT s.scan_id, d.name, s.name, d.root, d.layout
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE s.name = %(text)s OR d.name || '/' || s.name = %(text)s
ORDER BY d.name

-- name: scans_like
SELECT d.name || '/' || s.name
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE length(%(text)s) >= 4 AND strpos(d.name || '/' || s.name, %(text)s) > 0
ORDER BY 1
LIMIT 3

-- name: scans_matching
-- Scans with geometry, or all of them.
SELECT d.name, s.name
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE (%(dataset)s::text IS NULL OR d.name = %(dataset)s)
  AND (%(split)s::text IS NULL OR %(split)s IN (s.split, 'all'))
  AND (%(bare)s OR s.point_count IS NOT NULL)
ORDER BY d.name, s.name
