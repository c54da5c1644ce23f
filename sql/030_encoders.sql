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
    'build the HNSW index of one encoder; searches use it once there are more rows than an exact scan likes';
