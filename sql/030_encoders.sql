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

-- The build gets the memory it needs, up to the setting open3dsg.index_memory (`open3dsg db tune`), where that is
-- more than maintenance_work_mem. A parallel build needs it in shared memory: where that is short, the build
-- goes on in one process. Before pgvector 0.8.2 parallel builds overran a buffer.
-- Only the owner of a table may index it: this function does so for those who fill it. Its search path is fixed,
-- since it has the rights of its owner, and not everybody may call it (see 900_roles.sql). A function of somebody's
-- own in the same schema must not fit a call better than PostgreSQL's does, wherever that takes arguments of any type:
-- there the schema is named, or the type.
CREATE OR REPLACE FUNCTION create_node_index_v1(encoder text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
DECLARE
    known encoder := find_encoder_v1(encoder);
    index_name text := node_index_name_v1(known.encoder_id);
    statement text := pg_catalog.format(
        'CREATE INDEX IF NOT EXISTS %I ON node_feature'
        ' USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops) WHERE encoder_id = %s',
        index_name, known.dimension, known.encoder_id);
    memory_before text := current_setting('maintenance_work_mem');
    workers_before text := current_setting('max_parallel_maintenance_workers');
    allowed bigint := pg_size_bytes(coalesce(nullif(current_setting('open3dsg.index_memory', true), ''), '0'));
    memory bigint := least(node_index_memory_v1(known.encoder_id), allowed);
    parallel_is_safe boolean := (SELECT string_to_array(regexp_substr(extversion, '^[0-9.]+'), '.')::int[]
                                        OPERATOR(pg_catalog.>=) '{0,8,2}'
                                 FROM pg_extension WHERE extname = 'vector');
BEGIN
    IF memory > pg_size_bytes(memory_before) THEN
        PERFORM set_config('maintenance_work_mem', (memory / 1024)::text || 'kB', true);
    END IF;
    IF NOT parallel_is_safe THEN
        PERFORM set_config('max_parallel_maintenance_workers', '0', true);
    END IF;
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN disk_full OR out_of_memory THEN
        IF current_setting('max_parallel_maintenance_workers') = '0' THEN
            RAISE;
        END IF;
        RAISE NOTICE 'building the index in one process: %', SQLERRM
            USING HINT = 'a parallel build needs more shared memory (containers: --shm-size)';
        PERFORM set_config('max_parallel_maintenance_workers', '0', true);
        EXECUTE statement;
    END;
    PERFORM set_config('maintenance_work_mem', memory_before, true),
            set_config('max_parallel_maintenance_workers', workers_before, true);
    RETURN index_name;
END
$$;
COMMENT ON FUNCTION create_node_index_v1 IS
    'build the HNSW index of one encoder, after its features are loaded: each later row costs more then';
REVOKE EXECUTE ON FUNCTION create_node_index_v1 FROM PUBLIC;

DO $$
BEGIN
    -- The tables and the vector type need not lie in one schema; temporary tables, anybody's, come last.
    EXECUTE format(
        'ALTER FUNCTION create_node_index_v1 SET search_path = %s, pg_temp',
        (SELECT string_agg(DISTINCT quote_ident(n.nspname), ', ')
         FROM pg_namespace n
         WHERE n.oid IN ((SELECT relnamespace FROM pg_class WHERE oid = 'node_feature'::regclass),
                         (SELECT typnamespace FROM pg_type WHERE oid = 'halfvec'::regtype))));
END
$$;
