-- Open-vocabulary search over nodes.
--
-- Two paths. Exact: all rows that pass the filters are compared. Index: HNSW with iterative scan. A filter that
-- keeps few rows makes HNSW return too few, even with iterative scan (it gives up after hnsw.max_scan_tuples),
-- so rows are counted first, up to a limit, and few rows take the exact path. If the index still
-- returns fewer than k, the exact path answers.
--
-- Statements are built with the encoder's id as a literal: a parameter would hide the partial index from the
-- planner under a generic plan. They stand in functions of their own so that people, and the tests of plans,
-- can EXPLAIN them.

CREATE OR REPLACE FUNCTION node_conditions_v1(filters jsonb)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    unknown text;
    box double precision[];
    conditions text := '';
BEGIN
    filters := jsonb_strip_nulls(coalesce(filters, '{}'));
    SELECT string_agg(key, ', ' ORDER BY key) INTO unknown
    FROM jsonb_object_keys(filters) AS key
    WHERE key NOT IN ('dataset', 'scan', 'label', 'within', 'exact');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown filter: %', unknown
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'known: dataset, scan, label, within, exact';
    END IF;
    IF filters ? 'scan' THEN
        conditions := conditions || format(
            ' AND f.scan_id IN (SELECT s.scan_id FROM scan s WHERE s.name = %L)', filters ->> 'scan');
    END IF;
    IF filters ? 'dataset' THEN
        conditions := conditions || format(
            ' AND f.scan_id IN (SELECT s.scan_id FROM scan s JOIN dataset d USING (dataset_id)'
            ' WHERE d.name = %L)', filters ->> 'dataset');
    END IF;
    IF filters ? 'label' THEN
        conditions := conditions || ' AND ' || label_condition_v1(filters ->> 'label');
    END IF;
    IF filters ? 'within' THEN
        SELECT array_agg(value::double precision ORDER BY place) INTO box
        FROM jsonb_array_elements_text(filters -> 'within') WITH ORDINALITY AS corner (value, place);
        IF cardinality(box) IS DISTINCT FROM 6 THEN
            RAISE EXCEPTION 'the filter within takes six numbers: x0 y0 z0 x1 y1 z1 in metres'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        FOR axis IN 1..3 LOOP
            conditions := conditions || format(
                ' AND i.centroid_m[%s] BETWEEN %L::double precision AND %L::double precision',
                axis, least(box[axis], box[axis + 3]), greatest(box[axis], box[axis + 3]));
        END LOOP;
    END IF;
    RETURN conditions;
END
$$;
COMMENT ON FUNCTION node_conditions_v1 IS 'filters of search_nodes_v1 as SQL conditions on node_feature f, instance i';

CREATE OR REPLACE FUNCTION node_join_v1(conditions text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN conditions ~ '[ (]i\.' THEN ' JOIN instance i USING (scan_id, instance_no)' ELSE '' END;
COMMENT ON FUNCTION node_join_v1 IS 'the join that conditions of node_conditions_v1 need, if any: it costs more than a search';

CREATE OR REPLACE FUNCTION search_nodes_statement_v1(encoder_id integer, dimension integer, conditions text, use_index boolean)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN format(
    -- $1 is the query, $2 is k. The cast to vector keeps the exact path away from the halfvec index.
    'SELECT f.scan_id, f.instance_no, %1$s <=> $1::%2$s(%3$s) AS distance'
    ' FROM node_feature f%7$s'
    ' WHERE f.encoder_id = %4$s%5$s'
    ' ORDER BY %1$s <=> $1::%2$s(%3$s)%6$s LIMIT $2',
    CASE WHEN use_index THEN format('f.embedding::halfvec(%s)', dimension)
         ELSE format('f.embedding::vector(%s)', dimension) END,
    CASE WHEN use_index THEN 'halfvec' ELSE 'vector' END,
    dimension, encoder_id, conditions,
    CASE WHEN use_index THEN '' ELSE ', f.scan_id, f.instance_no' END,
    node_join_v1(conditions));
COMMENT ON FUNCTION search_nodes_statement_v1 IS 'the statement behind search_nodes_v1, for EXPLAIN';

CREATE OR REPLACE FUNCTION uses_node_index_v1(encoder_id integer, conditions text, exact boolean)
RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    -- Up to this many rows an exact scan takes a few ten milliseconds, and its answer needs no apology.
    few constant integer := coalesce(nullif(current_setting('open3dsg.exact_rows', true), '')::integer, 20000);
    passing integer;
BEGIN
    IF exact OR to_regclass(quote_ident(node_index_name_v1(encoder_id))) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'SELECT count(*) FROM (SELECT 1 FROM node_feature f%s WHERE f.encoder_id = %s%s LIMIT %s) AS passing',
        node_join_v1(conditions), encoder_id, conditions, few + 1)
        INTO passing;
    RETURN passing > few;
END
$$;
COMMENT ON FUNCTION uses_node_index_v1 IS
    'whether a search goes by the index: it exists, exact was not asked, and more rows pass than open3dsg.exact_rows';

CREATE OR REPLACE FUNCTION search_nodes_v1(query vector, encoder text, k integer, filters jsonb DEFAULT '{}')
RETURNS TABLE (scan text, instance integer, label text, similarity real, centroid_m double precision[],
               dataset text, scan_id bigint)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET hnsw.iterative_scan = 'strict_order'
SET hnsw.ef_search = '200'
SET hnsw.max_scan_tuples = '50000'
AS $$
#variable_conflict use_column
DECLARE
    known encoder := find_encoder_v1(encoder);
    conditions text := node_conditions_v1(filters);
    by_index boolean := uses_node_index_v1(known.encoder_id, conditions,
                                           coalesce((filters ->> 'exact')::boolean, false));
    best text := 'SELECT array_agg(n.scan_id), array_agg(n.instance_no), array_agg(n.distance) FROM (%s) AS n';
    scan_ids bigint[];
    instance_nos integer[];
    distances double precision[];
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF query IS NULL THEN
        RAISE EXCEPTION 'the query is NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'for a word use term_vector_v1(encoder, word)';
    END IF;
    IF vector_dims(query) <> known.dimension THEN
        RAISE EXCEPTION 'the query has % dimensions, encoder % has %',
            vector_dims(query), known.name, known.dimension USING ERRCODE = 'data_exception';
    END IF;
    IF vector_norm(query) = 0 THEN
        RAISE EXCEPTION 'the query is a zero vector: it has no direction to compare'
            USING ERRCODE = 'data_exception';
    END IF;
    EXECUTE format(best, search_nodes_statement_v1(known.encoder_id, known.dimension, conditions, by_index))
        INTO scan_ids, instance_nos, distances USING query, k;
    IF by_index AND coalesce(cardinality(scan_ids), 0) < k THEN
        EXECUTE format(best, search_nodes_statement_v1(known.encoder_id, known.dimension, conditions, false))
            INTO scan_ids, instance_nos, distances USING query, k;
    END IF;
    RETURN QUERY
    SELECT s.name, n.instance_no, coalesce(told.label, t.text), (1 - n.distance)::real, i.centroid_m, d.name,
           n.scan_id
    FROM unnest(scan_ids, instance_nos, distances) AS n (scan_id, instance_no, distance)
    JOIN instance i USING (scan_id, instance_no)
    JOIN scan s USING (scan_id)
    JOIN dataset d USING (dataset_id)
    JOIN term t ON t.term_id = i.label_id
    LEFT JOIN v_corrected_label told ON (told.scan_id, told.instance) = (n.scan_id, n.instance_no)
    ORDER BY n.distance, n.scan_id, n.instance_no;
END
$$;
COMMENT ON FUNCTION search_nodes_v1 IS
    'the k nodes most similar to a query vector; filters: dataset, scan, label, within [x0,y0,z0,x1,y1,z1], exact; label'
    ' is as corrected, else as annotated';
