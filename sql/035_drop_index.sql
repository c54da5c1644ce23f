-- Only the owner of a table may drop an index of it: this function does so for those who drop features. It has the
-- rights of its owner, as create_node_index_v1 has, and says what it means with the same care.
CREATE OR REPLACE FUNCTION drop_unused_indexes_v1(encoder text)
RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
DECLARE
    known encoder := find_encoder_v1(encoder);
    unused oid[];
    index_oid oid;
    dropped text[] := '{}';
BEGIN
    SELECT pg_catalog.array_agg(i.indexrelid)
    INTO unused
    FROM pg_index i
    WHERE pg_get_expr(i.indpred, i.indrelid) = pg_catalog.format('(encoder_id = %s)', known.encoder_id)
      AND (i.indrelid = 'node_feature'::regclass
           AND NOT EXISTS (SELECT FROM node_feature f WHERE f.encoder_id = known.encoder_id)
           OR i.indrelid = 'pair_feature'::regclass
           AND NOT EXISTS (SELECT FROM pair_feature f WHERE f.encoder_id = known.encoder_id));
    FOREACH index_oid IN ARRAY coalesce(unused, '{}')
    LOOP
        dropped := pg_catalog.array_append(
            dropped, (SELECT c.relname::text FROM pg_class c WHERE c.oid = index_oid));
        EXECUTE pg_catalog.format('DROP INDEX %s', index_oid::regclass);
    END LOOP;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION drop_unused_indexes_v1 IS
    'drop the vector indexes of an encoder on tables where it has no features left; which they were';
REVOKE EXECUTE ON FUNCTION drop_unused_indexes_v1 FROM PUBLIC;

DO $$
BEGIN
    -- As for create_node_index_v1.
    EXECUTE format(
        'ALTER FUNCTION drop_unused_indexes_v1 SET search_path = %s, pg_temp',
        (SELECT quote_ident(n.nspname)
         FROM pg_namespace n
         JOIN pg_class c ON c.relnamespace = n.oid
         WHERE c.oid = 'node_feature'::regclass));
END
$$;
