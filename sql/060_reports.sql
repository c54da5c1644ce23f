-- What the store holds, what it costs, and what is missing.

CREATE OR REPLACE FUNCTION storage_report_v1()
RETURNS TABLE (name text, rows bigint, bytes bigint, index_bytes bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    listed text;
BEGIN
    FOR listed IN
        SELECT c.oid::regclass::text
        FROM pg_class c
        WHERE c.relkind = 'r'
          AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'scan'::regclass)
          AND has_table_privilege(c.oid, 'SELECT')
        ORDER BY c.relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %1$L, count(*), pg_table_size(%1$L), pg_indexes_size(%1$L) FROM %1$s', listed);
    END LOOP;
END
$$;
COMMENT ON FUNCTION storage_report_v1 IS 'rows, bytes and index bytes of every table that one may read, counted exactly';

CREATE OR REPLACE FUNCTION missing_frames_v1(of_scan text DEFAULT NULL)
RETURNS TABLE (scan text, instance integer, label text, point_count integer, dataset text, scan_id bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT n.scan, n.instance, n.label, n.point_count, n.dataset, n.scan_id
    FROM v_node n
    WHERE (of_scan IS NULL OR n.scan = of_scan)
      AND EXISTS (SELECT FROM ledger l WHERE l.scan_id = n.scan_id AND l.step = 'observe' AND NOT l.stale)
      AND NOT EXISTS (SELECT FROM observation o
                      WHERE (o.scan_id, o.instance_no) = (n.scan_id, n.instance))
    ORDER BY n.scan_id, n.instance
$$;
COMMENT ON FUNCTION missing_frames_v1 IS 'instances of observed scans that no frame sees well enough';
