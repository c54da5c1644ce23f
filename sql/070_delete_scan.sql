-- Deleting whole, whatever tables later versions add: the catalogue says what belongs to a scan or names a term.

CREATE OR REPLACE FUNCTION delete_scan_v1(doomed bigint)
RETURNS TABLE (name text, rows bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
#variable_conflict use_column
DECLARE
    listed regclass;
    gone bigint;
BEGIN
    -- Tables that others point to come after those: a cascade would delete without counting.
    FOR listed IN
        WITH RECURSIVE below (relation, depth) AS (
            SELECT 'scan'::regclass::oid, 0
            UNION ALL
            SELECT c.conrelid, below.depth + 1
            FROM below
            JOIN pg_constraint c ON c.contype = 'f' AND c.confrelid = below.relation AND c.conrelid <> c.confrelid
        )
        SELECT relation::regclass
        FROM below
        JOIN pg_attribute a ON a.attrelid = relation AND a.attname = 'scan_id' AND NOT a.attisdropped
        GROUP BY relation
        ORDER BY max(depth) DESC, relation::regclass::text
    LOOP
        EXECUTE format('DELETE FROM %s WHERE scan_id = $1', listed) USING doomed;
        GET DIAGNOSTICS gone = ROW_COUNT;
        name := listed::text;
        rows := gone;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION delete_scan_v1 IS 'delete a scan and all that belongs to it; how many rows of each table';

CREATE OR REPLACE FUNCTION prune_terms_v1()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
    unnamed text;
    gone bigint;
BEGIN
    -- Embeddings go with their term, so they do not keep it.
    SELECT string_agg(format('NOT EXISTS (SELECT FROM %s u WHERE u.%I = t.term_id)', c.conrelid::regclass, a.attname),
                      ' AND ')
    INTO unnamed
    FROM pg_constraint c
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'f' AND c.confrelid = 'term'::regclass AND c.confdeltype <> 'c';
    EXECUTE 'DELETE FROM term t WHERE ' || unnamed;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION prune_terms_v1 IS 'delete the terms that nothing names any more; how many they were';
