-- Predictions by name, and open-vocabulary search over predicted nodes.
--
-- Every row that passes the filters is compared: predictions come and go, and an index over each would cost more
-- than it saves. A prediction is called RUN:LABEL, or RUN where the run has one alone.

CREATE OR REPLACE VIEW v_node_prediction AS
SELECT d.name AS dataset,
       s.name AS scan,
       r.name || ':' || p.label AS prediction,
       n.instance_no AS instance,
       t.text AS label,
       n.origin,
       i.centroid_m,
       n.embedding,
       n.prediction_id,
       n.scan_id
FROM node_prediction n
JOIN prediction p USING (prediction_id)
JOIN run r USING (run_id)
JOIN instance i USING (scan_id, instance_no)
JOIN term t ON t.term_id = i.label_id
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id);
COMMENT ON VIEW v_node_prediction IS
    'every predicted node, by name; label is the annotated one, origin tells what the embedding came from';

CREATE OR REPLACE VIEW v_edge_prediction AS
SELECT d.name AS dataset,
       s.name AS scan,
       r.name || ':' || p.label AS prediction,
       e.subject_no AS subject,
       subject_label.text AS subject_label,
       phrase.text AS phrase,
       e.object_no AS object,
       object_label.text AS object_label,
       e.caption,
       e.origin,
       e.embedding,
       e.scores,
       e.prediction_id,
       e.scan_id
FROM edge_prediction e
JOIN prediction p USING (prediction_id)
JOIN run r USING (run_id)
JOIN instance a ON (a.scan_id, a.instance_no) = (e.scan_id, e.subject_no)
JOIN term subject_label ON subject_label.term_id = a.label_id
JOIN instance b ON (b.scan_id, b.instance_no) = (e.scan_id, e.object_no)
JOIN term object_label ON object_label.term_id = b.label_id
JOIN scan s ON s.scan_id = e.scan_id
JOIN dataset d USING (dataset_id)
LEFT JOIN term phrase ON phrase.term_id = e.phrase_id;
COMMENT ON VIEW v_edge_prediction IS
    'every predicted pair in one direction, by name; phrase and caption where an encoder spoke, labels are the'
    ' annotated ones';

CREATE OR REPLACE FUNCTION find_prediction_v1(prediction text)
RETURNS prediction
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    known prediction;
    names text[];
BEGIN
    SELECT array_agg(r.name || ':' || p.label ORDER BY p.label COLLATE "C") INTO names
    FROM prediction p
    JOIN run r USING (run_id)
    WHERE find_prediction_v1.prediction IN (r.name, r.name || ':' || p.label);
    IF names IS NULL THEN
        RAISE EXCEPTION 'no prediction % in this database', coalesce(quote_literal(prediction), 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'known: ' || coalesce((SELECT string_agg(r.name || ':' || p.label, ', '
                                                                  ORDER BY r.name, p.label)
                                                FROM prediction p
                                                JOIN run r USING (run_id)),
                                               'none yet; run `open3dsg predict`');
    END IF;
    IF cardinality(names) > 1 THEN
        RAISE EXCEPTION 'the run % has several predictions', quote_literal(prediction)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'say ' || array_to_string(names, ' or ');
    END IF;
    SELECT p.* INTO known
    FROM prediction p
    JOIN run r USING (run_id)
    WHERE r.name || ':' || p.label = names[1];
    RETURN known;
END
$$;
COMMENT ON FUNCTION find_prediction_v1 IS 'the row of a prediction, by RUN:LABEL, or by RUN where it has one alone';

CREATE OR REPLACE FUNCTION search_predictions_statement_v1(prediction_id integer, dimension integer, conditions text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN format(
    -- $1 is the query, $2 is k.
    'SELECT f.scan_id, f.instance_no, f.embedding::vector(%1$s) <=> $1::vector(%1$s) AS distance, f.origin'
    ' FROM node_prediction f%4$s'
    ' WHERE f.prediction_id = %2$s%3$s'
    ' ORDER BY distance, f.scan_id, f.instance_no LIMIT $2',
    dimension, prediction_id, conditions, node_join_v1(conditions));
COMMENT ON FUNCTION search_predictions_statement_v1 IS 'the statement behind search_predictions_v1, for EXPLAIN';

CREATE OR REPLACE FUNCTION search_predictions_v1(query vector, prediction text, k integer, filters jsonb DEFAULT '{}')
RETURNS TABLE (scan text, instance integer, label text, similarity real, centroid_m double precision[],
               dataset text, scan_id bigint, origin text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    known prediction := find_prediction_v1(prediction);
    words encoder;
    statement text;
BEGIN
    SELECT e.* INTO words FROM encoder e WHERE e.encoder_id = known.node_words_id;
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF query IS NULL THEN
        RAISE EXCEPTION 'the query is NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = format('for a word use term_vector_v1(%L, word)', words.name || '@' || words.revision);
    END IF;
    IF vector_dims(query) <> words.dimension THEN
        RAISE EXCEPTION 'the query has % dimensions, the nodes of % have %',
            vector_dims(query), prediction, words.dimension
            USING ERRCODE = 'data_exception',
                  HINT = format('they are compared with words of %s@%s', words.name, words.revision);
    END IF;
    IF vector_norm(query) = 0 THEN
        RAISE EXCEPTION 'the query is a zero vector: it has no direction to compare'
            USING ERRCODE = 'data_exception';
    END IF;
    statement := search_predictions_statement_v1(known.prediction_id, words.dimension, node_conditions_v1(filters));
    RETURN QUERY EXECUTE
        'SELECT s.name, n.instance_no, coalesce(told.label, t.text), (1 - n.distance)::real, i.centroid_m, d.name,'
        ' n.scan_id, n.origin'
        ' FROM (' || statement || ') AS n'
        ' JOIN instance i USING (scan_id, instance_no)'
        ' JOIN scan s USING (scan_id)'
        ' JOIN dataset d USING (dataset_id)'
        ' JOIN term t ON t.term_id = i.label_id'
        ' LEFT JOIN v_corrected_label told ON (told.scan_id, told.instance) = (n.scan_id, n.instance_no)'
        ' ORDER BY n.distance, n.scan_id, n.instance_no'
        USING query, k;
END
$$;
COMMENT ON FUNCTION search_predictions_v1 IS
    'the k predicted nodes most similar to a query vector; filters as those of search_nodes_v1, and always exact';
