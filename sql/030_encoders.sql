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

CREATE OR REPLACE FUNCTION pair_index_name_v1(encoder_id integer)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'pair_feature_' || encoder_id || '_hnsw';
COMMENT ON FUNCTION pair_index_name_v1 IS 'what the vector index of an encoder over pairs is called';

-- 714 bytes a row beside the halves of its vector were measured with pgvector 0.8.5 (m = 16); the rest is a
-- margin. With less memory the build goes on on disk, many times slower.
CREATE OR REPLACE FUNCTION node_index_memory_v1(encoder_id integer)
RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT count(*) * (2 * max(e.dimension) + 800) + 16 * 1024 * 1024
    FROM node_feature f
    JOIN encoder e USING (encoder_id)
    WHERE e.encoder_id = node_index_memory_v1.encoder_id
);
COMMENT ON FUNCTION node_index_memory_v1 IS 'bytes that building the vector index of an encoder takes';

CREATE OR REPLACE FUNCTION pair_index_memory_v1(encoder_id integer)
RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT count(*) * (2 * max(e.dimension) + 800) + 16 * 1024 * 1024
    FROM pair_feature f
    JOIN encoder e USING (encoder_id)
    WHERE e.encoder_id = pair_index_memory_v1.encoder_id
);
COMMENT ON FUNCTION pair_index_memory_v1 IS 'bytes that building the vector index of an encoder over pairs takes';
