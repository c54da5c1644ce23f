-- Vector indexes of what encoders made, each over one encoder's rows of node_feature or pair_feature.
--
-- Only the owner of a table may index it: the functions here do so for those who fill it. Their search path is
-- fixed, since they have the rights of their owner, and not everybody may call them (see 900_roles.sql). A function
-- of somebody's own in the same schema must not fit a call better than PostgreSQL's does, wherever that takes
-- arguments of any type: there the schema is named, or the type.

CREATE OR REPLACE FUNCTION vector_index_lock_v1(encoder_id integer, pairs boolean)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('open3dsg:' || CASE WHEN pairs THEN pair_index_name_v1(encoder_id)
                                            ELSE node_index_name_v1(encoder_id) END, 0::bigint);
COMMENT ON FUNCTION vector_index_lock_v1 IS 'the advisory lock of whoever builds or changes a vector index';

-- Two builds of one index come one after the other; the second finds it there. A build gets the memory it needs, up
-- to the setting open3dsg.index_memory (`open3dsg db tune`), where that is more than maintenance_work_mem. A parallel
-- build needs it in shared memory: where that is short, the build goes on in one process. Before pgvector 0.8.2
-- parallel builds overran a buffer.
CREATE OR REPLACE FUNCTION build_index_v1(encoder text, pairs boolean, beside boolean)
RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    known encoder := find_encoder_v1(encoder);
    features regclass := CASE WHEN pairs THEN 'pair_feature'::regclass ELSE 'node_feature'::regclass END;
    index_name text := pg_catalog.format('%s%s', CASE WHEN pairs THEN pair_index_name_v1(known.encoder_id)
                                                      ELSE node_index_name_v1(known.encoder_id) END,
                                         CASE WHEN beside THEN '_new' END);
    statement text := pg_catalog.format(
        'CREATE INDEX IF NOT EXISTS %I ON %s'
        ' USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops) WHERE encoder_id = %s',
        index_name, features, known.dimension, known.encoder_id);
    memory_before text := current_setting('maintenance_work_mem');
    workers_before text := current_setting('max_parallel_maintenance_workers');
    allowed bigint := pg_size_bytes(coalesce(nullif(current_setting('open3dsg.index_memory', true), ''), '0'));
    memory bigint := least(CASE WHEN pairs THEN pair_index_memory_v1(known.encoder_id)
                                ELSE node_index_memory_v1(known.encoder_id) END, allowed);
    parallel_is_safe boolean := (SELECT string_to_array(regexp_substr(extversion, '^[0-9.]+'), '.')::int[]
                                        OPERATOR(pg_catalog.>=) '{0,8,2}'
                                 FROM pg_extension WHERE extname = 'vector');
BEGIN
    PERFORM pg_advisory_xact_lock(vector_index_lock_v1(known.encoder_id, pairs));
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
COMMENT ON FUNCTION build_index_v1 IS 'what the functions that build vector indexes share; they alone call it';
REVOKE EXECUTE ON FUNCTION build_index_v1 FROM PUBLIC;

CREATE OR REPLACE FUNCTION create_node_index_v1(encoder text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
BEGIN
    RETURN build_index_v1(encoder, pairs => false, beside => false);
END
$$;
COMMENT ON FUNCTION create_node_index_v1 IS
    'build the HNSW index of one encoder, after its features are loaded: each later row costs more then';
REVOKE EXECUTE ON FUNCTION create_node_index_v1 FROM PUBLIC;

CREATE OR REPLACE FUNCTION create_pair_index_v1(encoder text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
BEGIN
    RETURN build_index_v1(encoder, pairs => true, beside => false);
END
$$;
COMMENT ON FUNCTION create_pair_index_v1 IS 'as create_node_index_v1, over the pairs of one encoder';
REVOKE EXECUTE ON FUNCTION create_pair_index_v1 FROM PUBLIC;

-- An index is rebuilt in two transactions: a new one is built beside it, which takes long and holds up writers but
-- no reader; then it takes the place of the old one, which takes a moment but needs the table to itself. A reader
-- that comes while the second waits for that waits behind it: therefore it gives up soon, to be called again.
-- CREATE INDEX CONCURRENTLY would hold up nobody, but no function can run it, and who fills the tables does not own
-- them. Each index is whole or not there at all; what is written between the two goes into both.
CREATE OR REPLACE FUNCTION create_index_beside_v1(encoder text, pairs boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
BEGIN
    RETURN build_index_v1(encoder, pairs, beside => true);
END
$$;
COMMENT ON FUNCTION create_index_beside_v1 IS
    'build the vector index of one encoder again, beside the one there is; replace_index_v1 puts it in its place';
REVOKE EXECUTE ON FUNCTION create_index_beside_v1 FROM PUBLIC;

CREATE OR REPLACE FUNCTION replace_index_v1(encoder text, pairs boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET lock_timeout = '200ms'
SET client_min_messages = 'warning'  -- that there is no old one is no news
AS $$
DECLARE
    known encoder := find_encoder_v1(encoder);
    index_name text := CASE WHEN pairs THEN pair_index_name_v1(known.encoder_id)
                            ELSE node_index_name_v1(known.encoder_id) END;
    new_name text := pg_catalog.format('%s_new', index_name);
BEGIN
    PERFORM pg_advisory_xact_lock(vector_index_lock_v1(known.encoder_id, pairs));
    EXECUTE pg_catalog.format('DROP INDEX IF EXISTS %I', index_name);
    BEGIN
        EXECUTE pg_catalog.format('ALTER INDEX %I RENAME TO %I', new_name, index_name);
    EXCEPTION WHEN undefined_table THEN
        RAISE EXCEPTION 'there is no index % to put in the place of %', new_name, index_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'build one with create_index_beside_v1';
    END;
    RETURN index_name;
END
$$;
COMMENT ON FUNCTION replace_index_v1 IS
    'put what create_index_beside_v1 built in the place of the old index; fails with lock_not_available after a fifth'
    ' of a second of waiting for readers: call it again';
REVOKE EXECUTE ON FUNCTION replace_index_v1 FROM PUBLIC;

DO $$
DECLARE
    -- The tables and the vector type need not lie in one schema; temporary tables, anybody's, come last.
    path constant text := (SELECT string_agg(DISTINCT quote_ident(n.nspname), ', ')
                           FROM pg_namespace n
                           WHERE n.oid IN ((SELECT relnamespace FROM pg_class WHERE oid = 'node_feature'::regclass),
                                           (SELECT typnamespace FROM pg_type WHERE oid = 'halfvec'::regtype)));
    builder text;
BEGIN
    FOREACH builder IN ARRAY ARRAY['build_index_v1', 'create_node_index_v1', 'create_pair_index_v1',
                                   'create_index_beside_v1', 'replace_index_v1']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', builder, path);
    END LOOP;
END
$$;
