-- What features take, and of how many things the training units speak that they are of.
--
-- Bytes of a row are those of its columns as they are stored, in the row or out of line, and 28 of its head and its
-- place on the page. Not counted: indexes, what a page leaves free, and the heads of the pieces that a long column is
-- cut into (of pair_tokens with 24 kB a row these were 4 % in all).

-- The graph of a whole scan counts only where the scan has no other units: with them it would share everything.
CREATE OR REPLACE VIEW v_unit_member AS
SELECT m.scan_id, m.subgraph_no AS subgraph, m.instance_no AS instance
FROM subgraph g
JOIN subgraph_member m USING (scan_id, subgraph_no)
JOIN instance i USING (scan_id, instance_no)
WHERE i.point_count > 0
  AND (g.method <> 'full'
       OR NOT EXISTS (SELECT FROM subgraph o WHERE o.scan_id = g.scan_id AND o.method <> 'full'));
COMMENT ON VIEW v_unit_member IS
    'the objects with points of every training unit; of the graph of a whole scan only where it is the scan''s one unit';

CREATE OR REPLACE VIEW v_unit_pair AS
SELECT a.scan_id, a.subgraph, p.instance_a, p.instance_b
FROM v_unit_member a
JOIN pair p ON (p.scan_id, p.instance_a) = (a.scan_id, a.instance)
JOIN v_unit_member b ON (b.scan_id, b.subgraph, b.instance) = (a.scan_id, a.subgraph, p.instance_b)
JOIN subgraph g ON (g.scan_id, g.subgraph_no) = (a.scan_id, a.subgraph)
WHERE g.max_distance_m IS NULL OR p.min_distance_m <= g.max_distance_m;
COMMENT ON VIEW v_unit_pair IS 'the pairs of every training unit, a < b, as v_unit_member has their ends';

CREATE OR REPLACE FUNCTION feature_stats_v1(of_dataset text DEFAULT NULL, of_encoder text DEFAULT NULL)
RETURNS TABLE (encoder_id integer, kind text, layout text, dtype text, scans bigint, rows bigint, bytes bigint,
               payload_bytes bigint, unit_rows bigint, unit_bytes bigint, unit_payload_bytes bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    WITH asked_scan AS (
        SELECT s.scan_id
        FROM scan s
        JOIN dataset d USING (dataset_id)
        WHERE of_dataset IS NULL OR d.name = of_dataset),
    asked_encoder AS (
        SELECT e.encoder_id, 2 * e.dimension AS embedding_bytes
        FROM encoder e
        WHERE of_encoder IS NULL OR e.encoder_id = (SELECT (find_encoder_v1(of_encoder)).encoder_id)),
    unit_member AS (SELECT DISTINCT scan_id, instance FROM v_unit_member),
    unit_pair AS (SELECT DISTINCT scan_id, instance_a, instance_b FROM v_unit_pair),
    row_size AS (
        SELECT f.encoder_id, 'nodes' AS kind, NULL AS layout, NULL AS dtype, f.scan_id, u.scan_id IS NOT NULL AS in_unit,
               28 + 16 + pg_column_size(f.embedding) + pg_column_size(f.frame_nos) + pg_column_size(f.boxes)
               + pg_column_size(f.weights) AS bytes,
               NULL::integer AS payload_bytes
        FROM node_feature f
        LEFT JOIN unit_member u ON (u.scan_id, u.instance) = (f.scan_id, f.instance_no)
        UNION ALL
        SELECT f.encoder_id, 'pairs', NULL, NULL, f.scan_id, u.scan_id IS NOT NULL,
               28 + 20 + pg_column_size(f.embedding) + pg_column_size(f.frame_nos) + pg_column_size(f.boxes)
               + pg_column_size(f.weights),
               NULL
        FROM pair_feature f
        LEFT JOIN unit_pair u USING (scan_id, instance_a, instance_b)
        UNION ALL
        SELECT f.encoder_id, 'tokens', f.layout, f.dtype, f.scan_id, u.scan_id IS NOT NULL,
               28 + 20 + pg_column_size(f.layout) + pg_column_size(f.dtype) + pg_column_size(f.packing)
               + pg_column_size(f.tokens) + coalesce(pg_column_size(f.scales), 0),
               octet_length(f.tokens) + coalesce(octet_length(f.scales), 0)
        FROM pair_tokens f
        LEFT JOIN unit_pair u USING (scan_id, instance_a, instance_b)
        UNION ALL
        SELECT f.encoder_id, 'captions', NULL, NULL, f.scan_id, u.scan_id IS NOT NULL,
               28 + 20 + pg_column_size(f.caption) + coalesce(pg_column_size(f.phrase_id), 0),
               octet_length(f.caption)
        FROM relation_caption f
        LEFT JOIN unit_pair u
            ON (u.scan_id, u.instance_a, u.instance_b)
               = (f.scan_id, least(f.subject_no, f.object_no), greatest(f.subject_no, f.object_no))),
    of_scan AS (
        SELECT r.encoder_id, r.kind, r.layout, r.dtype, r.scan_id, count(*) AS rows, sum(r.bytes) AS bytes,
               sum(payload.bytes) AS payload_bytes, count(*) FILTER (WHERE r.in_unit) AS unit_rows,
               coalesce(sum(r.bytes) FILTER (WHERE r.in_unit), 0) AS unit_bytes,
               coalesce(sum(payload.bytes) FILTER (WHERE r.in_unit), 0) AS unit_payload_bytes
        FROM row_size r
        JOIN asked_scan USING (scan_id)
        JOIN asked_encoder e USING (encoder_id)
        -- To look at an embedding for its length would fetch all of it.
        CROSS JOIN LATERAL (SELECT coalesce(r.payload_bytes, e.embedding_bytes) AS bytes) AS payload
        GROUP BY r.encoder_id, r.kind, r.layout, r.dtype, r.scan_id)
    SELECT s.encoder_id, s.kind, s.layout, s.dtype,
           (SELECT count(DISTINCT o.scan_id) FROM of_scan o WHERE (o.encoder_id, o.kind) = (s.encoder_id, s.kind)),
           sum(s.rows)::bigint, sum(s.bytes)::bigint, sum(s.payload_bytes)::bigint, sum(s.unit_rows)::bigint,
           sum(s.unit_bytes)::bigint, sum(s.unit_payload_bytes)::bigint
    FROM of_scan s
    GROUP BY s.encoder_id, s.kind, s.layout, s.dtype
    ORDER BY s.encoder_id, s.kind, s.layout, s.dtype
$$;
COMMENT ON FUNCTION feature_stats_v1 IS
    'what the features of each encoder take, as rows and as numbers alone (payload_bytes), and of them those of things'
    ' that a training unit speaks of; tokens by format; scans: those with rows of the kind, in whichever format';

CREATE OR REPLACE FUNCTION feature_units_v1(of_dataset text DEFAULT NULL, of_encoder text DEFAULT NULL)
RETURNS TABLE (encoder_id integer, kind text, units bigint, unit_things bigint, things bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    WITH dumped AS (
        SELECT DISTINCT e.encoder_id, done.kind, done.scan_id
        FROM encoder e
        JOIN (SELECT 'nodes' AS kind, f.encoder_id, NULL AS variant, f.scan_id FROM node_feature f
              UNION ALL
              SELECT 'pairs', f.encoder_id, NULL, f.scan_id FROM pair_feature f
              UNION ALL
              SELECT split_part(l.step, '.', 2), NULL, l.variant, l.scan_id
              FROM ledger l
              WHERE l.step IN ('features.nodes', 'features.pairs')) AS done
            ON done.encoder_id = e.encoder_id OR done.variant = e.name || '@' || e.revision
        JOIN scan s USING (scan_id)
        JOIN dataset d USING (dataset_id)
        WHERE (of_dataset IS NULL OR d.name = of_dataset)
          AND (of_encoder IS NULL OR e.encoder_id = (SELECT (find_encoder_v1(of_encoder)).encoder_id))),
    thing AS (
        SELECT 'nodes' AS kind, scan_id, subgraph, instance AS a, NULL::integer AS b FROM v_unit_member
        UNION ALL
        SELECT 'pairs', scan_id, subgraph, instance_a, instance_b FROM v_unit_pair)
    SELECT m.encoder_id, m.kind, count(DISTINCT (t.scan_id, t.subgraph)), count(*),
           count(DISTINCT (t.scan_id, t.a, t.b))
    FROM dumped m
    JOIN thing t USING (kind, scan_id)
    GROUP BY m.encoder_id, m.kind
$$;
COMMENT ON FUNCTION feature_units_v1 IS
    'of the scans that an encoder was dumped for: training units, their objects or pairs (a < b) unit by unit, and each'
    ' thing once';
