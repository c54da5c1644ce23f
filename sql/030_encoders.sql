-- An encoder by name ('conse': its active revision) or by name and revision ('conse@1f2e...').

CREATE OR REPLACE FUNCTION find_encoder_v1(encoder text)
RETURNS encoder
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    known encoder;
BEGIN
    SELECT e.* INTO known
    FROM encoder e
    WHERE (e.name = find_encoder_v1.encoder AND e.is_active)
       OR e.name || '@' || e.revision = find_encoder_v1.encoder;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no encoder % in this database', coalesce(quote_literal(encoder), 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'known: ' || coalesce((SELECT string_agg(e.name || '@' || e.revision, ', '
                                                                  ORDER BY e.name, e.revision)
                                                FROM encoder e),
                                               'none yet; run `open3dsg features dump`');
    END IF;
    RETURN known;
END
$$;
COMMENT ON FUNCTION find_encoder_v1 IS 'the row of an encoder, by name or name@revision';

CREATE OR REPLACE FUNCTION term_vector_v1(encoder text, word text)
RETURNS vector
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    known encoder := find_encoder_v1(encoder);
    embedding vector;
BEGIN
    SELECT te.embedding::vector INTO embedding
    FROM term_embedding te
    JOIN term t USING (term_id)
    WHERE te.encoder_id = known.encoder_id AND t.text = word;
    IF embedding IS NULL THEN
        RAISE EXCEPTION 'encoder % has not embedded % yet', known.name, coalesce(quote_literal(word), 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'ask it once: open3dsg query nodes ' || quote_literal(coalesce(word, 'chair'));
    END IF;
    RETURN embedding;
END
$$;
COMMENT ON FUNCTION term_vector_v1 IS 'the embedding of a word that was asked before or stands in a class list';

CREATE OR REPLACE FUNCTION node_index_name_v1(encoder_id integer)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'node_feature_' || encoder_id || '_hnsw';
COMMENT ON FUNCTION node_index_name_v1 IS 'what the vector index of an encoder is called';

CREATE OR REPLACE FUNCTION create_node_index_v1(encoder text)
RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    known encoder := find_encoder_v1(encoder);
    index_name text := node_index_name_v1(known.encoder_id);
BEGIN
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON node_feature'
        ' USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops) WHERE encoder_id = %s',
        index_name, known.dimension, known.encoder_id);
    RETURN index_name;
END
$$;
COMMENT ON FUNCTION create_node_index_v1 IS
    'build the HNSW index of one encoder, after its features are loaded: each later row costs more then';
