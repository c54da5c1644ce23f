-- What predictions are called: the nearest terms of vocabularies, for nodes and for relations.
--
-- A wording counts for the term that it stands for, and of several wordings of one term the nearest does. Ties
-- are broken by the text of the term, in the order of its bytes, so that every server gives the same answer.

CREATE OR REPLACE FUNCTION vocabulary_id_v1(vocabulary text)
RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    id integer;
BEGIN
    SELECT v.vocabulary_id INTO id FROM vocabulary v WHERE v.name = vocabulary_id_v1.vocabulary;
    IF id IS NULL THEN
        RAISE EXCEPTION 'no vocabulary % in this database', coalesce(quote_literal(vocabulary), 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'known: ' || coalesce((SELECT string_agg(v.name, ', ' ORDER BY v.name) FROM vocabulary v),
                                               'none yet');
    END IF;
    RETURN id;
END
$$;
COMMENT ON FUNCTION vocabulary_id_v1 IS 'the number of a vocabulary, by name';

CREATE OR REPLACE FUNCTION vocabulary_vectors_v1(vocabulary text, encoder_id integer)
RETURNS TABLE (term text, wording text, embedding halfvec)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    list_id integer := vocabulary_id_v1(vocabulary);
    known encoder;
    missing bigint;
    others text;
BEGIN
    SELECT e.* INTO known FROM encoder e WHERE e.encoder_id = vocabulary_vectors_v1.encoder_id;
    SELECT count(*) INTO missing
    FROM vocabulary_term vt
    WHERE vt.vocabulary_id = list_id
      AND NOT EXISTS (SELECT FROM term_embedding te
                      WHERE te.term_id = vt.term_id AND te.encoder_id = known.encoder_id);
    IF missing > 0 THEN
        SELECT string_agg(DISTINCT format('%s@%s of dimension %s', e.name, e.revision, e.dimension), ', ') INTO others
        FROM vocabulary_term vt
        JOIN term_embedding te USING (term_id)
        JOIN encoder e ON e.encoder_id = te.encoder_id
        WHERE vt.vocabulary_id = list_id AND e.encoder_id <> known.encoder_id;
        RAISE EXCEPTION '% terms of vocabulary % have no embedding by %@%, of dimension %, which this is compared with%',
            missing, vocabulary, known.name, known.revision, known.dimension,
            coalesce('; they have by ' || others, '')
            USING ERRCODE = 'no_data_found',
                  HINT = format('`open3dsg predict` embeds all lists of classes and of predicates at its end;'
                                ' `open3dsg vocab add --encoder %s` embeds one', known.name);
    END IF;
    RETURN QUERY
    SELECT meant.text, said.text, te.embedding
    FROM vocabulary_term vt
    JOIN term said ON said.term_id = vt.term_id
    JOIN term meant ON meant.term_id = coalesce(vt.stands_for, vt.term_id)
    JOIN term_embedding te ON te.term_id = vt.term_id AND te.encoder_id = known.encoder_id
    WHERE vt.vocabulary_id = list_id;
END
$$;
COMMENT ON FUNCTION vocabulary_vectors_v1 IS
    'the wordings of a vocabulary with their embeddings by an encoder, and the term that each stands for';

CREATE OR REPLACE FUNCTION scans_called_v1(of_scan text)
RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    ids bigint[];
BEGIN
    IF of_scan IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT array_agg(s.scan_id) INTO ids
    FROM scan s
    JOIN dataset d USING (dataset_id)
    WHERE of_scan IN (s.name, d.name || '/' || s.name);
    IF ids IS NULL THEN
        RAISE EXCEPTION 'no scan % in this database', quote_literal(of_scan) USING ERRCODE = 'no_data_found';
    END IF;
    RETURN ids;
END
$$;
COMMENT ON FUNCTION scans_called_v1 IS 'the numbers of the scans of a name or dataset/name; null for null: all scans';

CREATE OR REPLACE FUNCTION classify_predictions_v1(prediction text, vocabulary text, k integer, of_scan text DEFAULT NULL)
RETURNS TABLE (scan text, instance integer, label text, rank integer, term text, similarity real, wording text,
               origin text, dataset text, scan_id bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    known prediction := find_prediction_v1(prediction);
    scan_ids bigint[] := scans_called_v1(of_scan);
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH word AS MATERIALIZED (
        SELECT w.term, w.wording, w.embedding FROM vocabulary_vectors_v1(vocabulary, known.node_words_id) w)
    SELECT s.name, n.instance_no, own.text, best.rank::integer, best.term, (1 - best.distance)::real, best.wording,
           n.origin, d.name, n.scan_id
    FROM node_prediction n
    JOIN instance i USING (scan_id, instance_no)
    JOIN term own ON own.term_id = i.label_id
    JOIN scan s USING (scan_id)
    JOIN dataset d USING (dataset_id)
    CROSS JOIN LATERAL (
        SELECT nearest.term, nearest.wording, nearest.distance,
               row_number() OVER (ORDER BY nearest.distance, nearest.term COLLATE "C") AS rank
        FROM (SELECT DISTINCT ON (w.term) w.term, w.wording, n.embedding <=> w.embedding AS distance
              FROM word w
              ORDER BY w.term, distance, w.wording COLLATE "C") AS nearest
        ORDER BY nearest.distance, nearest.term COLLATE "C"
        LIMIT k
    ) AS best
    WHERE n.prediction_id = known.prediction_id AND (scan_ids IS NULL OR n.scan_id = ANY (scan_ids))
    ORDER BY n.scan_id, n.instance_no, best.rank;
END
$$;
COMMENT ON FUNCTION classify_predictions_v1 IS
    'the k nearest terms of a vocabulary for every predicted node, or those of one scan (name or dataset/name)';

CREATE OR REPLACE FUNCTION map_predicates_v1(prediction text, vocabulary text, k integer, of_scan text DEFAULT NULL)
RETURNS TABLE (scan text, subject integer, subject_label text, object integer, object_label text, rank integer,
               predicate text, similarity real, wording text, origin text, dataset text, scan_id bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    known prediction := find_prediction_v1(prediction);
    scan_ids bigint[] := scans_called_v1(of_scan);
    list_id integer := vocabulary_id_v1(vocabulary);
    classes text[];
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT r.predicates INTO classes FROM run r WHERE r.run_id = known.run_id;
    IF known.relation_words_id IS NULL AND classes IS NULL THEN
        RAISE EXCEPTION 'the relations of % are in no space of words', quote_literal(prediction)
            USING ERRCODE = 'data_exception',
                  HINT = 'its encoder of pairs neither embeds words nor says how instances relate';
    END IF;
    IF known.relation_words_id IS NULL AND NOT EXISTS (
        SELECT FROM vocabulary_term vt
        JOIN term meant ON meant.term_id = coalesce(vt.stands_for, vt.term_id)
        WHERE vt.vocabulary_id = list_id AND meant.text = ANY (classes)) THEN
        RAISE EXCEPTION 'no term of vocabulary % is a class of the run of %', vocabulary, quote_literal(prediction)
            USING ERRCODE = 'data_exception',
                  HINT = 'its classes are ' || array_to_string(classes, ', ');
    END IF;
    RETURN QUERY
    WITH word AS MATERIALIZED (
        SELECT w.term, w.wording, w.embedding, NULL::integer AS place
        FROM vocabulary_vectors_v1(vocabulary, known.relation_words_id) w
        WHERE known.relation_words_id IS NOT NULL
        UNION ALL
        SELECT DISTINCT meant.text, meant.text, NULL::halfvec, array_position(classes, meant.text)
        FROM vocabulary_term vt
        JOIN term meant ON meant.term_id = coalesce(vt.stands_for, vt.term_id)
        WHERE known.relation_words_id IS NULL AND vt.vocabulary_id = list_id AND meant.text = ANY (classes))
    SELECT s.name, e.subject_no, subject_label.text, e.object_no, object_label.text, best.rank::integer, best.term,
           (1 - best.distance)::real, best.wording, e.origin, d.name, e.scan_id
    FROM edge_prediction e
    JOIN instance a ON (a.scan_id, a.instance_no) = (e.scan_id, e.subject_no)
    JOIN term subject_label ON subject_label.term_id = a.label_id
    JOIN instance b ON (b.scan_id, b.instance_no) = (e.scan_id, e.object_no)
    JOIN term object_label ON object_label.term_id = b.label_id
    JOIN scan s ON s.scan_id = e.scan_id
    JOIN dataset d USING (dataset_id)
    CROSS JOIN LATERAL (
        SELECT nearest.term, nearest.wording, nearest.distance,
               row_number() OVER (ORDER BY nearest.distance, nearest.term COLLATE "C") AS rank
        FROM (SELECT DISTINCT ON (w.term) w.term, w.wording,
                     CASE WHEN w.place IS NULL THEN e.embedding <=> w.embedding
                          ELSE 1 - e.scores[w.place]::double precision END AS distance
              FROM word w
              ORDER BY w.term, distance, w.wording COLLATE "C") AS nearest
        ORDER BY nearest.distance, nearest.term COLLATE "C"
        LIMIT k
    ) AS best
    WHERE e.prediction_id = known.prediction_id
      AND (scan_ids IS NULL OR e.scan_id = ANY (scan_ids))
      AND (e.embedding IS NOT NULL OR e.scores IS NOT NULL)
    ORDER BY e.scan_id, e.subject_no, e.object_no, best.rank;
END
$$;
COMMENT ON FUNCTION map_predicates_v1 IS
    'the k nearest predicates of a vocabulary for every predicted pair in each direction, or those of one scan; where'
    ' classes were learnt, those with the highest scores; pairs of which nothing was said are left out';
