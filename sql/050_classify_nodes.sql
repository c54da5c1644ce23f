-- Labels for nodes without labels: the nearest terms of a vocabulary.

CREATE OR REPLACE FUNCTION classify_nodes_v1(encoder text, vocabulary text, k integer, of_scan text DEFAULT NULL)
RETURNS TABLE (scan text, instance integer, label text, rank integer, term text, similarity real,
               dataset text, scan_id bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    known encoder := find_encoder_v1(encoder);
    list vocabulary;
    missing bigint;
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT v.* INTO list FROM vocabulary v WHERE v.name = classify_nodes_v1.vocabulary;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no vocabulary % in this database', coalesce(quote_literal(vocabulary), 'NULL')
            USING ERRCODE = 'no_data_found';
    END IF;
    SELECT count(*) INTO missing
    FROM vocabulary_term vt
    WHERE vt.vocabulary_id = list.vocabulary_id
      AND NOT EXISTS (SELECT FROM term_embedding te
                      WHERE te.term_id = vt.term_id AND te.encoder_id = known.encoder_id);
    IF missing > 0 THEN
        RAISE EXCEPTION '% terms of vocabulary % have no embedding by encoder %', missing, list.name, known.name
            USING ERRCODE = 'no_data_found',
                  HINT = 'run `open3dsg features dump`, which embeds class lists too';
    END IF;
    RETURN QUERY
    SELECT s.name, f.instance_no, own.text, best.rank::integer, best.text, (1 - best.distance)::real,
           d.name, f.scan_id
    FROM node_feature f
    JOIN instance i USING (scan_id, instance_no)
    JOIN term own ON own.term_id = i.label_id
    JOIN scan s USING (scan_id)
    JOIN dataset d USING (dataset_id)
    CROSS JOIN LATERAL (
        SELECT t.text,
               f.embedding <=> te.embedding AS distance,
               row_number() OVER (ORDER BY f.embedding <=> te.embedding, t.text) AS rank
        FROM vocabulary_term vt
        JOIN term t USING (term_id)
        JOIN term_embedding te ON te.term_id = vt.term_id AND te.encoder_id = known.encoder_id
        WHERE vt.vocabulary_id = list.vocabulary_id
        ORDER BY distance, t.text
        LIMIT k
    ) AS best
    WHERE f.encoder_id = known.encoder_id
      AND (of_scan IS NULL OR s.name = of_scan)
    ORDER BY f.scan_id, f.instance_no, best.rank;
END
$$;
COMMENT ON FUNCTION classify_nodes_v1 IS 'the k nearest terms of a vocabulary for every node, or those of one scan';
