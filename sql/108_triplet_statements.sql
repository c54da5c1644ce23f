-- What search_triplets_v1 is put together from: where edges come from, and the statements over them.
--
-- Statements stand in functions of their own so that people, and the tests of plans, can EXPLAIN them. All take the
-- same parameters, whether they use them or not:
--
--   $1 $2 $3      subject, predicate and object as halfvec
--   $4            how many rows
--   $5 $6 $7      a list of nodes: scan_ids, instance_nos, similarities
--   $8 $9         phrases and their similarities to the predicate
--   $10           the least that the similarities of a listed node and a predicate must sum up to; null: anything does
--
-- and give (scan_id, subject_no, object_no, phrase_id, subject_similarity, predicate_similarity, object_similarity,
-- score), best first.

CREATE OR REPLACE VIEW v_relation AS
SELECT said.scan_id, said.subject_no, said.object_no, said.predicate_id, bool_or(said.is_corrected) AS is_corrected
FROM (SELECT r.scan_id, r.subject_no, r.object_no, r.predicate_id, false AS is_corrected
      FROM relationship r
      UNION ALL
      SELECT c.scan_id, c.subject, c.object, c.predicate_id, true
      FROM v_corrected_relation c
      WHERE c.holds) AS said
WHERE NOT EXISTS (SELECT
                  FROM v_corrected_relation c
                  WHERE NOT c.holds
                    AND (c.scan_id, c.subject, c.object, c.predicate_id)
                        = (said.scan_id, said.subject_no, said.object_no, said.predicate_id))
GROUP BY said.scan_id, said.subject_no, said.object_no, said.predicate_id;
COMMENT ON VIEW v_relation IS
    'annotated relations, each once however many subgraphs share it, as people corrected them';
COMMENT ON COLUMN v_relation.is_corrected IS 'somebody said that it holds';

CREATE OR REPLACE FUNCTION triplet_node_conditions_v1(filters jsonb, place text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    -- Of `place`, subject or object, what node_conditions_v1 knows.
    of_node jsonb := jsonb_build_object(
        'dataset', filters -> 'dataset', 'scan', filters -> 'scan', 'within', filters -> 'within',
        'label', filters -> (place || '_label'));
    this jsonb := filters -> (place || '_instance');
BEGIN
    RETURN node_conditions_v1(of_node)
        || CASE WHEN this IS NULL THEN ''
                ELSE format(' AND (f.scan_id, f.instance_no) = (%s, %s)',
                            (this ->> 'scan_id')::bigint, (this ->> 'instance')::integer) END;
END
$$;
COMMENT ON FUNCTION triplet_node_conditions_v1 IS
    'filters of search_triplets_v1 as SQL conditions on what may be subject or object: a row f of nodes, instance i';

CREATE OR REPLACE FUNCTION triplet_conditions_v1(filters jsonb)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    known constant text[] := ARRAY['dataset', 'scan', 'within', 'max_distance', 'subject_label', 'predicate_label',
                                   'object_label', 'subject_instance', 'object_instance', 'evidence', 'exact'];
    unknown text;
    place text;
    on_node text;
    conditions text := '';
BEGIN
    SELECT string_agg(key, ', ' ORDER BY key) INTO unknown
    FROM jsonb_object_keys(filters) AS key
    WHERE key <> ALL (known);
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown filter: %', unknown
            USING ERRCODE = 'invalid_parameter_value', HINT = 'known: ' || array_to_string(known, ', ');
    END IF;
    IF filters ? 'scan' OR filters ? 'dataset' THEN
        conditions := replace(node_conditions_v1(
            jsonb_build_object('dataset', filters -> 'dataset', 'scan', filters -> 'scan')),
            ' AND f.scan_id IN', ' AND e.scan_id IN');
    END IF;
    FOREACH place IN ARRAY ARRAY['subject', 'object'] LOOP
        IF filters ? (place || '_instance') THEN
            IF num_nulls(filters #>> ARRAY[place || '_instance', 'scan_id'],
                         filters #>> ARRAY[place || '_instance', 'instance']) > 0 THEN
                RAISE EXCEPTION 'the filter %_instance takes {"scan_id": NUMBER, "instance": NUMBER}', place
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            conditions := conditions || format(
                ' AND (e.scan_id, e.%s_no) = (%s, %s)', place,
                (filters -> (place || '_instance') ->> 'scan_id')::bigint,
                (filters -> (place || '_instance') ->> 'instance')::integer);
        END IF;
        on_node := node_conditions_v1(
            jsonb_build_object('within', filters -> 'within', 'label', filters -> (place || '_label')));
        IF on_node <> '' THEN
            conditions := conditions || format(
                ' AND (e.scan_id, e.%s_no) IN (SELECT i.scan_id, i.instance_no FROM instance i WHERE true%s)',
                place, on_node);
        END IF;
    END LOOP;
    IF filters ? 'max_distance' THEN
        conditions := conditions || format(
            ' AND EXISTS (SELECT FROM pair near WHERE near.scan_id = e.scan_id'
            ' AND near.instance_a = least(e.subject_no, e.object_no)'
            ' AND near.instance_b = greatest(e.subject_no, e.object_no)'
            ' AND near.min_distance_m <= %L::double precision)', (filters ->> 'max_distance')::double precision);
    END IF;
    RETURN conditions;
END
$$;
COMMENT ON FUNCTION triplet_conditions_v1 IS 'filters of search_triplets_v1 as SQL conditions on a directed edge e';

CREATE OR REPLACE FUNCTION triplet_edges_v1(source text, ids integer[])
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN format(
    CASE source
        WHEN 'features' THEN
            -- The encoder is asked for outside: the planner looks into a UNION ALL only if its parts have no WHERE.
            'SELECT f.scan_id, f.subject_no, f.object_no, f.embedding, NULL::integer AS phrase_id FROM ('
            'SELECT p.encoder_id, p.scan_id, p.instance_a AS subject_no, p.instance_b AS object_no, p.embedding'
            ' FROM pair_feature p UNION ALL'
            ' SELECT p.encoder_id, p.scan_id, p.instance_b, p.instance_a, p.embedding FROM pair_feature p) AS f'
            ' WHERE f.encoder_id = %1$s'
        WHEN 'captions' THEN
            'SELECT c.scan_id, c.subject_no, c.object_no, NULL::halfvec AS embedding, c.phrase_id'
            ' FROM relation_caption c WHERE c.encoder_id = %1$s'
        WHEN 'predictions' THEN
            'SELECT p.scan_id, p.subject_no, p.object_no, p.embedding, p.phrase_id'
            ' FROM edge_prediction p WHERE p.prediction_id = %1$s'
        WHEN 'pairs' THEN
            'SELECT p.scan_id, p.instance_a AS subject_no, p.instance_b AS object_no, NULL::halfvec AS embedding,'
            ' NULL::integer AS phrase_id FROM pair p'
            ' UNION ALL SELECT p.scan_id, p.instance_b, p.instance_a, NULL::halfvec, NULL::integer FROM pair p'
        WHEN 'relations' THEN
            'SELECT DISTINCT r.scan_id, r.subject_no, r.object_no, NULL::halfvec AS embedding,'
            ' NULL::integer AS phrase_id FROM v_relation r'
        WHEN 'relation' THEN
            'SELECT r.scan_id, r.subject_no, r.object_no, NULL::halfvec AS embedding, r.predicate_id AS phrase_id'
            ' FROM v_relation r WHERE r.predicate_id = ANY (%2$L::integer[])'
    END, ids[1], ids);
COMMENT ON FUNCTION triplet_edges_v1 IS
    'directed edges: features or captions of an encoder, predictions of a prediction, pairs that `graph build` measured,'
    ' annotated relations, or the annotated relation of one predicate; what has no direction comes in both';

-- What follows FROM gives an edge e, and s and o with the similarities of its subject and its object if these are scored.
CREATE OR REPLACE FUNCTION triplet_statement_v1(from_clause text, conditions text, by_subject boolean, compared_by text,
                                                by_object boolean)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    similarities text[] := ARRAY[
        CASE WHEN by_subject THEN 's.similarity' END,
        CASE compared_by WHEN 'embedding' THEN '1 - (e.embedding <=> $2)' WHEN 'phrase' THEN 'said.similarity'
                         WHEN 'known' THEN 'e.similarity' END,
        CASE WHEN by_object THEN 'o.similarity' END];
    is_scored boolean := num_nonnulls(VARIADIC similarities) > 0;
BEGIN
    RETURN format(
        'SELECT e.scan_id, e.subject_no, e.object_no, e.phrase_id, %s::double precision AS subject_similarity,'
        ' (%s)::double precision AS predicate_similarity, %s::double precision AS object_similarity,'
        ' (%s)::double precision / %s AS score FROM %s%s WHERE true%s%s'
        ' ORDER BY score DESC,%s e.scan_id, e.subject_no, e.object_no, e.phrase_id LIMIT $4',
        coalesce(similarities[1], 'NULL'), coalesce(similarities[2], 'NULL'), coalesce(similarities[3], 'NULL'),
        CASE WHEN is_scored THEN array_to_string(similarities, ' + ') ELSE '0' END,
        greatest(num_nonnulls(VARIADIC similarities), 1), from_clause,
        CASE WHEN compared_by = 'phrase' THEN
                 ' JOIN unnest($8::integer[], $9::double precision[]) AS said (phrase_id, similarity)'
                 ' ON said.phrase_id = e.phrase_id'
             WHEN NOT is_scored THEN
                 ' LEFT JOIN pair near ON (near.scan_id, near.instance_a, near.instance_b)'
                 ' = (e.scan_id, least(e.subject_no, e.object_no), greatest(e.subject_no, e.object_no))'
             ELSE '' END,
        CASE WHEN compared_by = 'embedding' THEN ' AND e.embedding IS NOT NULL' ELSE '' END, conditions,
        CASE WHEN is_scored THEN '' ELSE ' near.min_distance_m,' END);
END
$$;
COMMENT ON FUNCTION triplet_statement_v1 IS 'the best of some edges, as SQL';

CREATE OR REPLACE FUNCTION triplet_nodes_v1(nodes text, place text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'SELECT n.scan_id, n.instance_no, 1 - (n.embedding <=> ' || CASE place WHEN 'subject' THEN '$1' ELSE '$3' END
    || ') AS similarity FROM ' || nodes;
COMMENT ON FUNCTION triplet_nodes_v1 IS 'nodes, TABLE n WHERE ..., with their similarity to the subject or the object, as SQL';

CREATE OR REPLACE FUNCTION triplet_candidates_v1(from_clause text, conditions text, compared_by text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'SELECT e.scan_id, e.subject_no, e.object_no, e.phrase_id, '
    || CASE compared_by WHEN 'embedding' THEN '1 - (e.embedding <=> $2)' WHEN 'phrase' THEN 'said.similarity'
                        ELSE 'NULL::double precision' END
    || ' AS similarity, own.similarity AS own FROM ' || from_clause
    || CASE compared_by WHEN 'phrase' THEN
           ' JOIN unnest($8::integer[], $9::double precision[]) AS said (phrase_id, similarity)'
           ' ON said.phrase_id = e.phrase_id' ELSE '' END
    || ' WHERE true' || conditions
    || CASE compared_by WHEN 'embedding' THEN ' AND e.embedding IS NOT NULL' ELSE '' END;
COMMENT ON FUNCTION triplet_candidates_v1 IS
    'edges e that pass the filters, with the similarities of their predicate and of the listed node own they were found'
    ' at, as SQL';

CREATE OR REPLACE FUNCTION exact_triplets_statement_v1(edges text, conditions text, nodes text, by_subject boolean,
                                                       compared_by text, by_object boolean)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN NOT by_subject AND NOT by_object
    THEN triplet_statement_v1('(' || edges || ') AS e', conditions, false, compared_by, false)
    -- Each node is compared once, however many edges it has.
    ELSE 'WITH candidate AS MATERIALIZED ('
        || triplet_candidates_v1('(' || edges || ') AS e CROSS JOIN (VALUES (NULL)) AS own (similarity)', conditions,
                                 compared_by) || ')'
        || CASE WHEN by_subject THEN
               ', subject AS MATERIALIZED (SELECT n.* FROM (SELECT DISTINCT c.scan_id, c.subject_no FROM candidate c)'
               ' AS c JOIN (' || triplet_nodes_v1(nodes, 'subject')
               || ') AS n ON (n.scan_id, n.instance_no) = (c.scan_id, c.subject_no))' ELSE '' END
        || CASE WHEN by_object THEN
               ', object AS MATERIALIZED (SELECT n.* FROM (SELECT DISTINCT c.scan_id, c.object_no FROM candidate c)'
               ' AS c JOIN (' || triplet_nodes_v1(nodes, 'object')
               || ') AS n ON (n.scan_id, n.instance_no) = (c.scan_id, c.object_no))' ELSE '' END
        || ' ' || triplet_statement_v1(
            'candidate e'
            || CASE WHEN by_subject
                    THEN ' JOIN subject s ON (s.scan_id, s.instance_no) = (e.scan_id, e.subject_no)' ELSE '' END
            || CASE WHEN by_object
                    THEN ' JOIN object o ON (o.scan_id, o.instance_no) = (e.scan_id, e.object_no)' ELSE '' END,
            '', by_subject, CASE WHEN compared_by IS NOT NULL THEN 'known' END, by_object)
    END;
COMMENT ON FUNCTION exact_triplets_statement_v1 IS
    'the best of all edges that pass the filters: the statement of the exact path of search_triplets_v1, for EXPLAIN';

-- OFFSET 0 keeps the planner from reading all edges, or all nodes, to join them with a list whose length it guesses.
CREATE OR REPLACE FUNCTION triplet_lookup_v1(rows text, alias text, keys text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ' CROSS JOIN LATERAL (SELECT * FROM (' || rows || ') AS ' || alias || ' WHERE ' || keys || ' OFFSET 0) AS ' || alias;
COMMENT ON FUNCTION triplet_lookup_v1 IS 'a join that looks rows up by an index, one after the other, as SQL';

CREATE OR REPLACE FUNCTION listed_triplets_statement_v1(edges text, conditions text, nodes text, place text,
                                                        compared_by text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    other constant text := CASE place WHEN 'subject' THEN 'object' ELSE 'subject' END;
    both_ends constant boolean := nodes IS NOT NULL;
    candidates constant text := triplet_candidates_v1(
        'unnest($5, $6, $7) AS own (scan_id, instance_no, similarity)'
        || triplet_lookup_v1(edges, 'e', format('(e.scan_id, e.%s_no) = (own.scan_id, own.instance_no)', place)),
        conditions, compared_by);
    compared text := format('edge e CROSS JOIN LATERAL (VALUES (e.own)) AS %s (similarity)', left(place, 1));
BEGIN
    IF both_ends THEN
        compared := compared || triplet_lookup_v1(
            triplet_nodes_v1(nodes, other), left(other, 1),
            format('(%1$s.scan_id, %1$s.instance_no) = (e.scan_id, e.%2$s_no)'
                   ' AND ($10::double precision IS NULL OR e.own + coalesce(e.similarity, 0) >= $10)',
                   left(other, 1), other));
    END IF;
    RETURN format(
        'WITH edge AS MATERIALIZED (%s), hit AS (%s)'
        ' SELECT (SELECT max(edge.similarity) FROM edge) AS best_predicate, (SELECT jsonb_agg(hit) FROM hit) AS hits',
        candidates,
        triplet_statement_v1(compared, '', both_ends OR place = 'subject',
                             CASE WHEN compared_by IS NOT NULL THEN 'known' END, both_ends OR place = 'object'));
END
$$;
COMMENT ON FUNCTION listed_triplets_statement_v1 IS
    'the best edges at the nodes of the list, which stand at `place`, subject or object, as JSON, and the nearest'
    ' predicate among all edges there; nodes NULL: the other end is not scored. The statement of a round of'
    ' triplets_by_index_v1, for EXPLAIN';

-- By both ends an edge may be found twice, with similarities that differ in the last digit.
CREATE OR REPLACE FUNCTION best_of_both_v1(hits jsonb, others jsonb, k integer)
RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT jsonb_agg(best.hit ORDER BY best.score DESC, best.edge)
    FROM (
        SELECT found.edge, (array_agg(found.hit))[1] AS hit, max((found.hit ->> 'score')::double precision) AS score
        FROM (
            SELECT hit, ARRAY[hit -> 'scan_id', hit -> 'subject_no', hit -> 'object_no', hit -> 'phrase_id'] AS edge
            FROM jsonb_array_elements(coalesce(hits, '[]') || coalesce(others, '[]')) AS hit
        ) AS found
        GROUP BY found.edge
        ORDER BY score DESC, found.edge
        LIMIT k
    ) AS best
);
COMMENT ON FUNCTION best_of_both_v1 IS
    'the k best of two lists of hits as listed_triplets_statement_v1 gives them, each edge once';

CREATE OR REPLACE FUNCTION nearest_pairs_statement_v1(encoder_id integer, dimension integer, conditions text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN format(
    'SELECT e.scan_id, e.subject_no, e.object_no, NULL::integer AS phrase_id,'
    ' NULL::double precision AS subject_similarity, 1 - (f.embedding::halfvec(%1$s) <=> $2::halfvec(%1$s))'
    ' AS predicate_similarity, NULL::double precision AS object_similarity,'
    ' 1 - (f.embedding::halfvec(%1$s) <=> $2::halfvec(%1$s)) AS score'
    ' FROM pair_feature f CROSS JOIN LATERAL (VALUES (f.scan_id, f.instance_a, f.instance_b),'
    ' (f.scan_id, f.instance_b, f.instance_a)) AS e (scan_id, subject_no, object_no)'
    ' WHERE f.encoder_id = %2$s%3$s ORDER BY f.embedding::halfvec(%1$s) <=> $2::halfvec(%1$s) LIMIT $4',
    dimension, encoder_id, conditions);
COMMENT ON FUNCTION nearest_pairs_statement_v1 IS
    'pairs by their similarity to the predicate alone, through the index over pairs: a statement behind'
    ' search_triplets_v1, for EXPLAIN';

CREATE OR REPLACE FUNCTION nearest_phrases_statement_v1(encoder_id integer, conditions text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN format(
    'SELECT e.scan_id, e.subject_no, e.object_no, said.phrase_id, NULL::double precision AS subject_similarity,'
    ' said.similarity AS predicate_similarity, NULL::double precision AS object_similarity,'
    ' said.similarity AS score'
    ' FROM (SELECT * FROM unnest($8::integer[], $9::double precision[]) AS said (phrase_id, similarity)'
    ' ORDER BY similarity DESC, phrase_id) AS said CROSS JOIN LATERAL (SELECT * FROM relation_caption e'
    ' WHERE e.encoder_id = %s AND e.phrase_id = said.phrase_id%s LIMIT $4) AS e'
    ' ORDER BY score DESC, said.phrase_id LIMIT $4',
    encoder_id, conditions);
COMMENT ON FUNCTION nearest_phrases_statement_v1 IS
    'captioned edges by the similarity of their phrase alone: a statement behind search_triplets_v1, for EXPLAIN';
