-- Open-vocabulary search over relations.
--
-- The score of a triplet is the mean of the similarities of those of its places that are compared with a vector.
-- Edges that pass the filters are counted first, up to a limit: few are all compared. Of more, the threshold
-- algorithm (Fagin, Lotem and Naor, Optimal aggregation algorithms for middleware, JCSS 2003) finds the best without
-- looking at all of them: see triplets_by_index_v1. Where it cannot tell that nothing better was left out, all are
-- compared.

CREATE OR REPLACE FUNCTION check_triplet_vector_v1(query vector, dimension integer, place text, words text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF vector_dims(query) <> dimension THEN
        RAISE EXCEPTION 'the % has % dimensions, % has %', place, vector_dims(query), words, dimension
            USING ERRCODE = 'data_exception';
    END IF;
    IF vector_norm(query) = 0 THEN
        RAISE EXCEPTION 'the % is a zero vector: it has no direction to compare', place
            USING ERRCODE = 'data_exception';
    END IF;
END
$$;
COMMENT ON FUNCTION check_triplet_vector_v1 IS 'raises for a vector that search_triplets_v1 cannot compare';

CREATE OR REPLACE FUNCTION caption_words_v1(speaker_id integer, words text)
RETURNS encoder
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    phrase integer;
    names text[];
BEGIN
    IF words IS NULL THEN
        SELECT c.phrase_id INTO phrase
        FROM relation_caption c
        WHERE c.encoder_id = speaker_id AND c.phrase_id IS NOT NULL
        LIMIT 1;
        SELECT array_agg(e.name || '@' || e.revision ORDER BY e.name, e.revision) INTO names
        FROM term_embedding te
        JOIN encoder e USING (encoder_id)
        WHERE te.term_id = phrase;
        IF cardinality(names) IS DISTINCT FROM 1 THEN
            RAISE EXCEPTION 'what is said of pairs is embedded by % encoders', coalesce(cardinality(names), 0)
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = coalesce('name one as the last argument: ' || array_to_string(names, ' or '),
                                      'run `open3dsg features caption`');
        END IF;
        words := names[1];
    END IF;
    RETURN find_encoder_v1(words);
END
$$;
COMMENT ON FUNCTION caption_words_v1 IS
    'whose words captions of an encoder are compared with: of the encoder named, or of the only one that embedded them';

-- Phrases are few, and one is found after the other in their index: counting them would read all captions.
CREATE OR REPLACE FUNCTION said_phrases_v1(speaker_id integer, words_id integer, predicate halfvec,
                                           OUT phrase_ids integer[], OUT similarities double precision[])
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    missing bigint;
BEGIN
    WITH RECURSIVE phrase AS (
        SELECT min(c.phrase_id) AS phrase_id FROM relation_caption c
        UNION ALL
        SELECT (SELECT min(c.phrase_id) FROM relation_caption c WHERE c.phrase_id > p.phrase_id)
        FROM phrase p
        WHERE p.phrase_id IS NOT NULL
    )
    SELECT array_agg(p.phrase_id ORDER BY p.phrase_id) FILTER (WHERE te.term_id IS NOT NULL),
           array_agg(1 - (te.embedding <=> predicate) ORDER BY p.phrase_id) FILTER (WHERE te.term_id IS NOT NULL),
           count(*) FILTER (
               WHERE te.term_id IS NULL
                 AND EXISTS (SELECT FROM relation_caption c
                             WHERE c.phrase_id = p.phrase_id AND c.encoder_id = speaker_id))
    INTO phrase_ids, similarities, missing
    FROM phrase p
    LEFT JOIN term_embedding te ON (te.encoder_id, te.term_id) = (words_id, p.phrase_id)
    WHERE p.phrase_id IS NOT NULL;
    IF missing > 0 THEN
        RAISE EXCEPTION '% phrases that were said of pairs are not embedded', missing
            USING ERRCODE = 'no_data_found', HINT = 'run `open3dsg features caption` again';
    END IF;
END
$$;
COMMENT ON FUNCTION said_phrases_v1 IS 'all phrases that encoders say, with their similarities to a predicate';

CREATE OR REPLACE FUNCTION triplet_list_v1(encoder_id integer, dimension integer, conditions text, query halfvec,
                                           depth integer, by_index boolean, OUT scan_ids bigint[],
                                           OUT instance_nos integer[], OUT similarities double precision[])
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = '200'
SET hnsw.max_scan_tuples = '400000'
SET hnsw.scan_mem_multiplier = '64'
AS $$
BEGIN
    PERFORM set_config('hnsw.ef_search', greatest(200, least(1000, 2 * depth))::text, true);
    EXECUTE format('SELECT array_agg(n.scan_id ORDER BY n.distance), array_agg(n.instance_no ORDER BY n.distance),'
                   ' array_agg(1 - n.distance ORDER BY n.distance) FROM (%s) AS n',
                   search_nodes_statement_v1(encoder_id, dimension, conditions, by_index))
        INTO scan_ids, instance_nos, similarities
        USING query, depth;
END
$$;
COMMENT ON FUNCTION triplet_list_v1 IS
    'the `depth` nodes most similar to a query, by the index or without it; fewer: no more pass, or the index gave up';

-- Subjects and objects that are compared are listed by the index over nodes, most similar first. All edges at the first
-- nodes of a list are looked at, and once both ends of an edge, and its predicate, are compared, its score is known. An
-- edge that was not looked at has no end that is more similar than the last of its list. Its predicate is taken to be no
-- more similar than the best of all edges looked at, or where phrases are compared of all phrases. While it could beat
-- the k-th hit, the list that ends with the more similar node is made twice as deep, and the edges at the nodes that are
-- new in it are looked at. No row: it cannot be told at the greatest depth, or the index gave up.
CREATE OR REPLACE FUNCTION triplets_by_index_v1(edges text, conditions text, known encoder, filters jsonb,
                                                subject halfvec, predicate halfvec, object halfvec, compared_by text,
                                                phrase_ids integer[], phrases double precision[], k integer)
RETURNS TABLE (scan_id bigint, subject_no integer, object_no integer, phrase_id integer,
               subject_similarity double precision, predicate_similarity double precision,
               object_similarity double precision, score double precision)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
AS $$
#variable_conflict use_variable
DECLARE
    deepest constant integer := 32000;
    first constant integer := coalesce(nullif(current_setting('open3dsg.triplet_depth', true), '')::integer, 500);
    scored constant integer := num_nonnulls(subject, predicate, object);
    listed_ends constant integer := num_nonnulls(subject, object);
    nodes constant text := CASE listed_ends
        WHEN 2 THEN format('node_feature n WHERE n.encoder_id = %s', known.encoder_id) END;
    -- Of subject and object, in this order:
    statements constant text[] := ARRAY[
        listed_triplets_statement_v1(edges, conditions, nodes, 'subject', compared_by),
        listed_triplets_statement_v1(edges, conditions, nodes, 'object', compared_by)];
    node_conditions constant text[] := ARRAY[triplet_node_conditions_v1(filters, 'subject'),
                                             triplet_node_conditions_v1(filters, 'object')];
    by_index constant boolean[] := ARRAY[uses_node_index_v1(known.encoder_id, node_conditions[1], false),
                                         uses_node_index_v1(known.encoder_id, node_conditions[2], false)];
    depth integer[] := array_fill(greatest(first / listed_ends, 1), ARRAY[2]);
    looked_at integer[] := '{0, 0}';
    nearest double precision[] := '{1, 1}';
    last double precision[] := ARRAY[num_nonnulls(subject), num_nonnulls(object)];
    place integer := CASE WHEN subject IS NULL THEN 2 ELSE 1 END;
    listed record;
    found record;
    hits jsonb;
    best_predicate double precision := CASE WHEN predicate IS NULL THEN 0
                                            ELSE (SELECT max(s) FROM unnest(phrases) AS s) END;
    needed double precision;  -- the sum of the similarities of the k-th hit; null while there are fewer
BEGIN
    LOOP
        listed := triplet_list_v1(known.encoder_id, known.dimension, node_conditions[place],
                                  CASE place WHEN 1 THEN subject ELSE object END, depth[place], by_index[place]);
        EXECUTE statements[place]
            INTO found
            USING subject, predicate, object, k, listed.scan_ids[looked_at[place] + 1:],
                  listed.instance_nos[looked_at[place] + 1:], listed.similarities[looked_at[place] + 1:],
                  phrase_ids, phrases, needed - nearest[3 - place];
        hits := best_of_both_v1(hits, found.hits, k);
        needed := scored * (hits -> (k - 1) ->> 'score')::double precision;
        best_predicate := greatest(best_predicate, found.best_predicate);
        looked_at[place] := coalesce(cardinality(listed.scan_ids), 0);
        IF looked_at[place] < depth[place] THEN
            EXIT WHEN NOT by_index[place];  -- an edge that passes has such an end: all were looked at
            RETURN;
        END IF;
        nearest[place] := listed.similarities[1];
        last[place] := listed.similarities[depth[place]];
        EXIT WHEN needed >= last[1] + last[2] + best_predicate;
        IF listed_ends = 2 THEN
            place := CASE WHEN last[1] >= last[2] THEN 1 ELSE 2 END;
        END IF;
        IF looked_at[place] > 0 THEN
            depth[place] := 2 * depth[place];
        END IF;
        IF depth[place] > deepest THEN
            RETURN;
        END IF;
    END LOOP;
    RETURN QUERY SELECT * FROM jsonb_to_recordset(hits) AS h (
        scan_id bigint, subject_no integer, object_no integer, phrase_id integer, subject_similarity double precision,
        predicate_similarity double precision, object_similarity double precision, score double precision);
END
$$;
COMMENT ON FUNCTION triplets_by_index_v1 IS
    'the k best edges by lists of the most similar subjects and objects; no row where these cannot tell which they are';

CREATE OR REPLACE FUNCTION best_triplets_v1(source text, ids integer[], filters jsonb, known encoder, nodes text,
                                            words encoder, subject halfvec, predicate halfvec, object halfvec,
                                            k integer)
RETURNS TABLE (scan_id bigint, subject_no integer, object_no integer, phrase_id integer,
               subject_similarity double precision, predicate_similarity double precision,
               object_similarity double precision, score double precision, place bigint)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET hnsw.iterative_scan = 'strict_order'
SET hnsw.ef_search = '200'
SET hnsw.max_scan_tuples = '50000'
AS $$
#variable_conflict use_variable
DECLARE
    few constant integer := coalesce(nullif(current_setting('open3dsg.exact_rows', true), '')::integer, 20000);
    numbered constant text := 'WITH h AS MATERIALIZED (%s) SELECT h.*, row_number() OVER () FROM h';
    edges text := triplet_edges_v1(source, ids);
    conditions text := triplet_conditions_v1(filters);
    compared_by text := CASE WHEN predicate IS NULL THEN NULL WHEN source = 'captions' THEN 'phrase'
                             ELSE 'embedding' END;
    phrase_ids integer[];
    phrases double precision[];
    passing integer;
    by_index boolean := num_nonnulls(subject, predicate, object) > 0
                        AND source NOT IN ('predictions', 'relation')
                        AND NOT coalesce((filters ->> 'exact')::boolean, false)
                        AND CASE WHEN num_nonnulls(subject, object) > 0
                                 THEN to_regclass(quote_ident(node_index_name_v1(known.encoder_id))) IS NOT NULL
                                 ELSE compared_by = 'phrase'
                                      OR to_regclass(quote_ident(pair_index_name_v1(ids[1]))) IS NOT NULL END;
    statement text;
BEGIN
    IF compared_by = 'phrase' THEN
        SELECT said.phrase_ids, said.similarities INTO phrase_ids, phrases
        FROM said_phrases_v1(ids[1], words.encoder_id, predicate) AS said;
    END IF;
    IF by_index THEN
        EXECUTE format('SELECT count(*) FROM (SELECT 1%s LIMIT %s) AS passing',
                       ' FROM (' || edges || ') AS e WHERE true' || conditions, few + 1)
            INTO passing;
        by_index := passing > few;
    END IF;
    IF by_index AND num_nonnulls(subject, object) = 0 THEN
        statement := CASE WHEN compared_by = 'phrase' THEN nearest_phrases_statement_v1(ids[1], conditions)
                          ELSE nearest_pairs_statement_v1(ids[1], words.dimension, conditions) END;
        -- Fewer than k: the index gave up before.
        RETURN QUERY EXECUTE format(numbered, statement) || ' WHERE (SELECT count(*) FROM h) = $4'
            USING subject, predicate, object, k, NULL, NULL, NULL, phrase_ids, phrases;
    ELSIF by_index THEN
        RETURN QUERY
        SELECT h.*, row_number() OVER ()
        FROM triplets_by_index_v1(edges, conditions, known, filters, subject, predicate, object, compared_by,
                                  phrase_ids, phrases, k) AS h;
    END IF;
    IF NOT (by_index AND FOUND) THEN
        statement := exact_triplets_statement_v1(edges, conditions, nodes, subject IS NOT NULL, compared_by,
                                                 object IS NOT NULL);
        RETURN QUERY EXECUTE format('SELECT h.*, row_number() OVER () FROM (%s) AS h', statement)
            USING subject, predicate, object, k, NULL, NULL, NULL, phrase_ids, phrases;
    END IF;
END
$$;
COMMENT ON FUNCTION best_triplets_v1 IS 'the k best edges, by number: what search_triplets_v1 finds, before names';

-- One row: where the edges of a question come from, and whose words they are compared with.
CREATE OR REPLACE FUNCTION triplet_source_v1(predicate_label text, with_words boolean, pair_encoder text,
                                             prediction text, words text, OUT source text, OUT ids integer[],
                                             OUT compared_with encoder)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    predicted prediction;
    speaker encoder;
BEGIN
    IF predicate_label IS NOT NULL THEN
        source := 'relation';
        SELECT coalesce(array_agg(t.term_id), '{}') INTO ids FROM term t WHERE lower(t.text) = lower(predicate_label);
        IF with_words THEN
            RAISE EXCEPTION 'the predicate is both compared and named' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    ELSIF prediction IS NOT NULL THEN
        predicted := find_prediction_v1(prediction);
        source := 'predictions';
        ids := ARRAY[predicted.prediction_id];
        SELECT e.* INTO compared_with FROM encoder e WHERE e.encoder_id = predicted.relation_words_id;
        IF with_words AND compared_with IS NULL THEN
            RAISE EXCEPTION 'the relations of % cannot be compared with words', prediction
                USING ERRCODE = 'data_exception',
                      HINT = 'leave the predicate open, or see map_predicates_v1 for the classes that were learnt';
        END IF;
    ELSIF pair_encoder IS NOT NULL THEN
        speaker := find_encoder_v1(pair_encoder);
        ids := ARRAY[speaker.encoder_id];
        source := CASE WHEN EXISTS (SELECT FROM pair_feature f WHERE f.encoder_id = speaker.encoder_id)
                            AND (speaker.views = 'crops' OR NOT with_words) THEN 'features'
                       WHEN EXISTS (SELECT FROM relation_caption c WHERE c.encoder_id = speaker.encoder_id)
                       THEN 'captions' END;
        IF source IS NULL THEN
            RAISE EXCEPTION 'nothing of pairs by % can be compared with words', pair_encoder
                USING ERRCODE = 'no_data_found',
                      HINT = 'run `open3dsg features dump --pairs` or `open3dsg features caption` first';
        END IF;
        IF with_words THEN
            compared_with := CASE source WHEN 'captions' THEN caption_words_v1(speaker.encoder_id, words)
                                         ELSE speaker END;
        END IF;
    ELSIF with_words THEN
        RAISE EXCEPTION 'a predicate that is compared needs a pair_encoder or a prediction'
            USING ERRCODE = 'invalid_parameter_value';
    ELSE
        source := CASE WHEN EXISTS (SELECT FROM pair) THEN 'pairs' ELSE 'relations' END;
    END IF;
END
$$;
COMMENT ON FUNCTION triplet_source_v1 IS
    'the edges that search_triplets_v1 looks through, as triplet_edges_v1 takes them, and whose words they are'
    ' compared with';

CREATE OR REPLACE FUNCTION pair_frames_v1(scan_id bigint, instance_a integer, instance_b integer, most integer)
RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ARRAY(
    SELECT a.frame_no
    FROM observation a
    JOIN observation b ON (b.scan_id, b.frame_no) = (a.scan_id, a.frame_no)
    WHERE a.scan_id = pair_frames_v1.scan_id AND a.instance_no = instance_a AND b.instance_no = instance_b
    ORDER BY least(a.visibility_ratio, b.visibility_ratio) DESC, a.visible_points + b.visible_points DESC, a.frame_no
    LIMIT most
);
COMMENT ON FUNCTION pair_frames_v1 IS
    'the frames that show two instances together: first those in which the lesser seen of both shows most of itself';

CREATE OR REPLACE FUNCTION search_triplets_v1(subject_query vector, predicate_query vector, object_query vector,
                                              k integer, filters jsonb DEFAULT '{}', encoder text DEFAULT NULL,
                                              pair_encoder text DEFAULT NULL, prediction text DEFAULT NULL,
                                              words text DEFAULT NULL)
RETURNS TABLE (dataset text, scan text, subject integer, subject_label text, predicate text, object integer,
               object_label text, score double precision, subject_similarity double precision,
               predicate_similarity double precision, object_similarity double precision, distance_m double precision,
               subject_centroid_m double precision[], object_centroid_m double precision[], frames integer[],
               scan_id bigint)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
AS $$
#variable_conflict use_column
DECLARE
    asked constant jsonb := jsonb_strip_nulls(coalesce(filters, '{}'));
    evidence constant integer := CASE WHEN coalesce((asked ->> 'evidence')::boolean, true) THEN 5 ELSE 0 END;
    known encoder;
    predicted prediction;
    nodes text;
    edges record;
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    edges := triplet_source_v1(asked ->> 'predicate_label', predicate_query IS NOT NULL, pair_encoder, prediction, words);
    IF num_nonnulls(subject_query, object_query) > 0 THEN
        IF prediction IS NULL THEN
            known := find_encoder_v1(encoder);
            nodes := format('node_feature n WHERE n.encoder_id = %s', known.encoder_id);
        ELSE
            predicted := find_prediction_v1(prediction);
            SELECT e.* INTO known FROM encoder e WHERE e.encoder_id = predicted.node_words_id;
            nodes := format('node_prediction n WHERE n.prediction_id = %s', predicted.prediction_id);
        END IF;
        PERFORM check_triplet_vector_v1(subject_query, known.dimension, 'subject', known.name),
                check_triplet_vector_v1(object_query, known.dimension, 'object', known.name);
    END IF;
    PERFORM check_triplet_vector_v1(predicate_query, (edges.compared_with).dimension, 'predicate',
                                    (edges.compared_with).name);
    RETURN QUERY
    SELECT d.name, s.name, h.subject_no, coalesce(subject_told.label, subject_label.text),
           coalesce(phrase.text, said.predicates), h.object_no, coalesce(object_told.label, object_label.text),
           h.score, h.subject_similarity, h.predicate_similarity, h.object_similarity, near.min_distance_m,
           a.centroid_m, b.centroid_m, pair_frames_v1(h.scan_id, h.subject_no, h.object_no, evidence), h.scan_id
    FROM best_triplets_v1(edges.source, edges.ids, asked, known, nodes, edges.compared_with, subject_query::halfvec,
                          predicate_query::halfvec, object_query::halfvec, k) AS h
    JOIN scan s ON s.scan_id = h.scan_id
    JOIN dataset d USING (dataset_id)
    JOIN instance a ON (a.scan_id, a.instance_no) = (h.scan_id, h.subject_no)
    JOIN term subject_label ON subject_label.term_id = a.label_id
    JOIN instance b ON (b.scan_id, b.instance_no) = (h.scan_id, h.object_no)
    JOIN term object_label ON object_label.term_id = b.label_id
    LEFT JOIN v_corrected_label subject_told
        ON (subject_told.scan_id, subject_told.instance) = (h.scan_id, h.subject_no)
    LEFT JOIN v_corrected_label object_told ON (object_told.scan_id, object_told.instance) = (h.scan_id, h.object_no)
    LEFT JOIN term phrase ON phrase.term_id = h.phrase_id
    LEFT JOIN pair near ON (near.scan_id, near.instance_a, near.instance_b)
                           = (h.scan_id, least(h.subject_no, h.object_no), greatest(h.subject_no, h.object_no))
    CROSS JOIN LATERAL (
        SELECT string_agg(told.text, ', ' ORDER BY told.text COLLATE "C") AS predicates
        FROM v_relation r
        JOIN term told ON told.term_id = r.predicate_id
        WHERE (r.scan_id, r.subject_no, r.object_no) = (h.scan_id, h.subject_no, h.object_no)
    ) AS said
    ORDER BY h.place;
END
$$;
COMMENT ON FUNCTION search_triplets_v1 IS
    'the k relations that fit best: score is the mean of the similarities of the places that are given a vector, NULL'
    ' leaves one open; filters: dataset, scan, within [x0,y0,z0,x1,y1,z1], max_distance, subject_label,'
    ' predicate_label, object_label, subject_instance {scan_id, instance}, object_instance, evidence, exact';
