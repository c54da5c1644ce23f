-- name: scan_rows
-- What the store holds of each scan, and what is done for it.
SELECT v.dataset, v.scan, v.split, v.points, v.frames, v.instances, v.subgraphs, v.relationships,
       v.observations, v.features,
       (SELECT coalesce(jsonb_agg(DISTINCT problem), '[]')
        FROM ledger l, jsonb_array_elements(l.problems) AS problem
        WHERE l.scan_id = v.scan_id) AS problems,
       (SELECT coalesce(jsonb_agg(done), '[]')
        FROM (SELECT step, variant, max(finished_at) AS finished, count(*) FILTER (WHERE NOT stale) AS chunks,
                     max(chunks) AS of, min(step_version) AS version, bool_or(stale) AS stale,
                     bool_or(options ? 'imported') AS imported
              FROM ledger
              WHERE scan_id = v.scan_id
              GROUP BY step, variant
              ORDER BY step, variant) AS done) AS steps,
       d.layout
FROM v_scan v
JOIN dataset d ON d.name = v.dataset
WHERE (%(dataset)s::text IS NULL OR v.dataset = %(dataset)s)
  AND (%(split)s::text IS NULL OR %(split)s IN (v.split, 'all'))
  AND (%(scan_id)s::bigint IS NULL OR v.scan_id = %(scan_id)s)
ORDER BY v.dataset, v.scan

-- name: dataset_roots
SELECT d.name, d.layout, d.root, d.arguments, count(s.scan_id)
FROM dataset d
LEFT JOIN scan s USING (dataset_id)
WHERE %(name)s::text IS NULL OR d.name = %(name)s
GROUP BY d.dataset_id
ORDER BY d.name

-- name: dataset_move
UPDATE dataset SET root = %(root)s, arguments = %(arguments)s WHERE name = %(name)s

-- name: scan_source
-- How the dataset's reader was opened, and the options that the scan was read with.
SELECT d.arguments, (SELECT l.options FROM ledger l WHERE l.scan_id = s.scan_id AND l.step = 'ingest')
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE s.scan_id = %(scan_id)s

-- name: annotation_hashes
SELECT s.name, l.options ->> 'content'
FROM ledger l
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
WHERE d.name = %(dataset)s AND l.step = 'annotate'

-- name: scans_with_geometry
SELECT s.name
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE d.name = %(dataset)s AND s.point_count IS NOT NULL
ORDER BY s.name

-- name: frame_uris
-- The pictures of some scans, or of their first and last frames.
SELECT s.name, f.image_uri, f.depth_uri
FROM scan s
JOIN dataset d USING (dataset_id)
JOIN frame f USING (scan_id)
WHERE d.name = %(dataset)s
  AND s.name = ANY (%(scans)s::text[])
  AND (%(every)s
       OR f.frame_no IN (SELECT min(e.frame_no) FROM frame e WHERE e.scan_id = s.scan_id
                         UNION ALL
                         SELECT max(e.frame_no) FROM frame e WHERE e.scan_id = s.scan_id))
ORDER BY s.name, f.frame_no

-- name: delete_scan
SELECT name, rows FROM delete_scan_v1(%(scan_id)s)

-- name: datasets_drop_empty
-- Those of some datasets that have no scan left, with the word lists that came with them.
WITH empty AS (
    SELECT dataset_id
    FROM dataset d
    WHERE d.name = ANY (%(names)s) AND NOT EXISTS (SELECT FROM scan s WHERE s.dataset_id = d.dataset_id)
), words AS (
    DELETE FROM vocabulary_term WHERE vocabulary_id IN (SELECT vocabulary_id FROM vocabulary JOIN empty USING (dataset_id))
    RETURNING vocabulary_id
), lists AS (
    DELETE FROM vocabulary WHERE dataset_id IN (SELECT dataset_id FROM empty) RETURNING vocabulary_id
), gone AS (
    DELETE FROM dataset WHERE dataset_id IN (SELECT dataset_id FROM empty) RETURNING dataset_id
)
SELECT (SELECT count(*) FROM gone) AS dataset,
       (SELECT count(*) FROM lists) AS vocabulary,
       (SELECT count(*) FROM words) AS vocabulary_term
