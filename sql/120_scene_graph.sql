-- Scene graphs: how the objects of a scan relate, as annotated or predicted, and as people corrected it.

CREATE OR REPLACE VIEW v_scene_graph AS
SELECT d.name AS dataset,
       s.name AS scan,
       e.subject,
       coalesce(subject_told.label, subject_label.text) AS subject_label,
       predicate.text AS predicate,
       e.object,
       coalesce(object_told.label, object_label.text) AS object_label,
       e.source,
       e.caption,
       near.min_distance_m AS distance_m,
       s.scan_id
FROM scan s
JOIN dataset d USING (dataset_id)
CROSS JOIN LATERAL (
    SELECT subject, predicate_id, object, spoken.caption,
           CASE WHEN held.is_corrected THEN 'corrected' WHEN held.is_corrected IS NULL THEN 'captioned'
                ELSE 'annotated' END AS source
    FROM (SELECT r.subject_no AS subject, r.predicate_id, r.object_no AS object, r.is_corrected
          FROM v_relation r
          WHERE r.scan_id = s.scan_id) AS held
    FULL JOIN (
        SELECT DISTINCT ON (c.subject_no, c.phrase_id, c.object_no)
               c.subject_no AS subject, c.phrase_id AS predicate_id, c.object_no AS object, c.caption
        FROM relation_caption c
        JOIN encoder speaker ON speaker.encoder_id = c.encoder_id AND speaker.is_active
        WHERE c.scan_id = s.scan_id
          AND c.phrase_id IS NOT NULL
          -- Annotations of instances without a place, as masks leave them, say nothing of those that have one.
          AND NOT EXISTS (SELECT
                          FROM relationship r
                          JOIN instance a ON (a.scan_id, a.instance_no) = (r.scan_id, r.subject_no)
                          JOIN instance b ON (b.scan_id, b.instance_no) = (r.scan_id, r.object_no)
                          WHERE r.scan_id = s.scan_id AND a.centroid_m IS NOT NULL AND b.centroid_m IS NOT NULL)
          AND NOT EXISTS (SELECT
                          FROM v_corrected_relation denied
                          WHERE NOT denied.holds
                            AND (denied.scan_id, denied.subject, denied.object, denied.predicate_id)
                                = (c.scan_id, c.subject_no, c.object_no, c.phrase_id))
        ORDER BY c.subject_no, c.phrase_id, c.object_no, speaker.name COLLATE "C") AS spoken
        USING (subject, predicate_id, object)
) AS e
JOIN term predicate ON predicate.term_id = e.predicate_id
JOIN instance a ON (a.scan_id, a.instance_no) = (s.scan_id, e.subject)
JOIN term subject_label ON subject_label.term_id = a.label_id
JOIN instance b ON (b.scan_id, b.instance_no) = (s.scan_id, e.object)
JOIN term object_label ON object_label.term_id = b.label_id
LEFT JOIN v_corrected_label subject_told ON (subject_told.scan_id, subject_told.instance) = (s.scan_id, e.subject)
LEFT JOIN v_corrected_label object_told ON (object_told.scan_id, object_told.instance) = (s.scan_id, e.object)
LEFT JOIN pair near
    ON (near.scan_id, near.instance_a, near.instance_b)
       = (s.scan_id, least(e.subject, e.object), greatest(e.subject, e.object));
COMMENT ON VIEW v_scene_graph IS
    'a row a relation, by name and each once: the annotated ones; where annotations relate no instances with a place,'
    ' what encoders say; with the corrections of people. What a run predicts is in scene_graph_v1';
COMMENT ON COLUMN v_scene_graph.subject_label IS 'as corrected, else as annotated';
COMMENT ON COLUMN v_scene_graph.object_label IS 'as corrected, else as annotated';
COMMENT ON COLUMN v_scene_graph.source IS 'annotated, captioned, or corrected: somebody said that it holds';
COMMENT ON COLUMN v_scene_graph.caption IS 'the whole of what an encoder said';
COMMENT ON COLUMN v_scene_graph.distance_m IS 'least, between points of the two; null: `graph build` has not measured it';

CREATE OR REPLACE FUNCTION scene_scan_id_v1(scan text)
RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    ids bigint[] := scans_called_v1(scan);
BEGIN
    IF ids IS NULL THEN
        RAISE EXCEPTION 'the scan is NULL'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'give its name, or dataset/name';
    END IF;
    IF cardinality(ids) > 1 THEN
        RAISE EXCEPTION 'several scans are called %', quote_literal(scan)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'say ' || (SELECT string_agg(d.name || '/' || s.name, ' or ' ORDER BY d.name)
                                    FROM scan s
                                    JOIN dataset d USING (dataset_id)
                                    WHERE s.scan_id = ANY (ids));
    END IF;
    RETURN ids[1];
END
$$;
COMMENT ON FUNCTION scene_scan_id_v1 IS 'the number of the one scan of a name or dataset/name';

CREATE OR REPLACE FUNCTION scene_edges_v1(scan_id bigint, prediction text, predicates text, k integer)
RETURNS TABLE (subject integer, predicate text, object integer, source text, similarity real, caption text,
               distance_m double precision)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    full_name text := (SELECT d.name || '/' || s.name
                       FROM scan s
                       JOIN dataset d USING (dataset_id)
                       WHERE s.scan_id = scene_edges_v1.scan_id);
    known prediction;
BEGIN
    IF prediction IS NULL THEN
        RETURN QUERY
        SELECT g.subject, g.predicate, g.object, g.source, NULL::real, g.caption, g.distance_m
        FROM v_scene_graph g
        WHERE g.scan_id = scene_edges_v1.scan_id
        ORDER BY g.subject, g.object, g.predicate COLLATE "C";
        RETURN;
    END IF;
    known := find_prediction_v1(prediction);
    RETURN QUERY
    WITH mapped AS (
        SELECT m.subject, m.predicate, m.object, m.rank, m.similarity, e.caption
        FROM map_predicates_v1(prediction, predicates, k, full_name) m
        JOIN edge_prediction e
            ON (e.scan_id, e.prediction_id, e.subject_no, e.object_no)
               = (m.scan_id, known.prediction_id, m.subject, m.object)
    ), told AS (
        SELECT r.subject, r.predicate, r.object, r.holds
        FROM v_corrected_relation r
        WHERE r.scan_id = scene_edges_v1.scan_id
    )
    SELECT subject, predicate, object, CASE WHEN told.holds THEN 'corrected' ELSE 'predicted' END,
           mapped.similarity, mapped.caption, near.min_distance_m
    FROM mapped
    FULL JOIN told USING (subject, predicate, object)
    LEFT JOIN pair near
        ON (near.scan_id, near.instance_a, near.instance_b)
           = (scene_edges_v1.scan_id, least(subject, object), greatest(subject, object))
    WHERE told.holds IS NOT false
    ORDER BY subject, object, mapped.rank, predicate COLLATE "C";
END
$$;
COMMENT ON FUNCTION scene_edges_v1 IS
    'the relations of one scan: those of v_scene_graph, or the k nearest predicates of each pair of a prediction with'
    ' the corrections of people; by subject, object and rank';

CREATE OR REPLACE FUNCTION scene_nodes_v1(scan_id bigint, prediction text, classes text)
RETURNS TABLE (instance integer, label text, annotated_label text, predicted_label text, similarity real,
               is_corrected boolean, point_count integer, centroid_m double precision[],
               aabb_min_m double precision[], aabb_max_m double precision[], obb_centre_m double precision[],
               obb_axes double precision[], obb_lengths_m double precision[], attributes jsonb)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    full_name text := (SELECT d.name || '/' || s.name
                       FROM scan s
                       JOIN dataset d USING (dataset_id)
                       WHERE s.scan_id = scene_nodes_v1.scan_id);
    instances integer[];
    terms text[];
    similarities real[];
BEGIN
    IF prediction IS NOT NULL THEN
        SELECT array_agg(p.instance), array_agg(p.term), array_agg(p.similarity)
        INTO instances, terms, similarities
        FROM classify_predictions_v1(prediction, classes, 1, full_name) p;
    END IF;
    RETURN QUERY
    WITH described AS (
        SELECT kinds.instance_no, jsonb_object_agg(kinds.kind, kinds.words) AS words
        FROM (SELECT a.instance_no, a.kind, jsonb_agg(t.text ORDER BY t.text COLLATE "C") AS words
              FROM instance_attribute a
              JOIN term t USING (term_id)
              WHERE a.scan_id = scene_nodes_v1.scan_id
              GROUP BY a.instance_no, a.kind) AS kinds
        GROUP BY kinds.instance_no
    )
    SELECT i.instance_no, coalesce(told.label, named.term, own.text), own.text, named.term, named.similarity,
           told.label IS NOT NULL, i.point_count, i.centroid_m, i.aabb_min_m, i.aabb_max_m, i.obb_centre_m,
           i.obb_axes, i.obb_lengths_m, coalesce(described.words, '{}')
    FROM instance i
    JOIN term own ON own.term_id = i.label_id
    LEFT JOIN v_corrected_label told ON (told.scan_id, told.instance) = (i.scan_id, i.instance_no)
    LEFT JOIN unnest(instances, terms, similarities) AS named (instance, term, similarity)
        ON named.instance = i.instance_no
    LEFT JOIN described ON described.instance_no = i.instance_no
    WHERE i.scan_id = scene_nodes_v1.scan_id
    ORDER BY i.instance_no;
END
$$;
COMMENT ON FUNCTION scene_nodes_v1 IS
    'the instances of one scan: label is as corrected, else as predicted where a prediction is named, else as annotated';

CREATE OR REPLACE FUNCTION prediction_of_scan_v1(scan_id bigint, prediction text)
RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    known constant prediction := find_prediction_v1(prediction);
    full_name constant text := (SELECT r.name || ':' || known.label FROM run r WHERE r.run_id = known.run_id);
BEGIN
    IF NOT EXISTS (SELECT FROM node_prediction n
                   WHERE n.scan_id = prediction_of_scan_v1.scan_id AND n.prediction_id = known.prediction_id)
       AND NOT EXISTS (SELECT FROM edge_prediction e
                       WHERE e.scan_id = prediction_of_scan_v1.scan_id AND e.prediction_id = known.prediction_id) THEN
        RAISE EXCEPTION '% says nothing of scan %', full_name, (SELECT d.name || '/' || s.name
                                                                FROM scan s
                                                                JOIN dataset d USING (dataset_id)
                                                                WHERE s.scan_id = prediction_of_scan_v1.scan_id)
            USING ERRCODE = 'no_data_found', HINT = '`open3dsg predict` with --scan predicts it';
    END IF;
    RETURN full_name;
END
$$;
COMMENT ON FUNCTION prediction_of_scan_v1 IS 'the whole name, RUN:LABEL, of a prediction that says something of a scan';

CREATE OR REPLACE FUNCTION scene_graph_v1(scan text, prediction text DEFAULT NULL, classes text DEFAULT NULL,
                                          predicates text DEFAULT NULL, k integer DEFAULT 1)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    id bigint := scene_scan_id_v1(scan);
    run_label text := prediction_of_scan_v1(id, prediction);
    graph jsonb;
BEGIN
    IF prediction IS NULL AND coalesce(classes, predicates) IS NOT NULL THEN
        RAISE EXCEPTION 'classes and predicates are what a prediction is compared with: name a prediction too'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT jsonb_build_object(
               'dataset', d.name, 'scan', s.name, 'prediction', run_label,
               'nodes', (SELECT coalesce(jsonb_agg(to_jsonb(n)), '[]')
                         FROM scene_nodes_v1(id, run_label, coalesce(classes, d.name || '-classes')) n),
               'edges', (SELECT coalesce(jsonb_agg(to_jsonb(e)), '[]')
                         FROM scene_edges_v1(id, run_label, coalesce(predicates, d.name || '-predicates'), k) e))
    INTO graph
    FROM scan s
    JOIN dataset d USING (dataset_id)
    WHERE s.scan_id = id;
    RETURN graph;
END
$$;
COMMENT ON FUNCTION scene_graph_v1 IS
    'the scene graph of one scan, by name or dataset/name, as JSON: nodes and edges as annotated, or as a prediction has'
    ' them by the nearest of two vocabularies (DATASET-classes, DATASET-predicates unless named), with corrections';
