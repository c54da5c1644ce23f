-- name: corrections
-- All, those of one scan, or one; oldest first.
SELECT correction_id, dataset, scan, kind, instance, instance_label, object, object_label, text, holds, author,
       made_at, reverted_by, reverted_at, in_force
FROM v_correction
WHERE (%(scan_id)s::bigint IS NULL OR scan_id = %(scan_id)s)
  AND (%(correction_id)s::numeric IS NULL OR correction_id = %(correction_id)s)
ORDER BY correction_id

-- name: correction_add
-- Nothing where an instance is gone; both are kept until the end of the transaction.
WITH there AS (
    SELECT instance_no
    FROM instance
    WHERE scan_id = %(scan_id)s AND instance_no IN (%(instance)s, %(object)s)
    FOR KEY SHARE
)
INSERT INTO correction (scan_id, kind, instance_no, object_no, term_id, holds, author)
SELECT %(scan_id)s, %(kind)s, %(instance)s::integer, %(object)s::integer, %(term_id)s, %(holds)s, %(author)s
WHERE (SELECT count(*) FROM there) = num_nonnulls(%(instance)s::integer, %(object)s::integer)
RETURNING correction_id

-- name: correction_revert
UPDATE correction
SET reverted_by = %(author)s, reverted_at = now()
WHERE correction_id = %(correction_id)s AND reverted_at IS NULL

-- name: correction_count
SELECT count(*) FROM correction WHERE scan_id = %(scan_id)s

-- name: corrections_drop_unannotated
-- Those of instances that annotations of subgraphs do not name: others are about to get their numbers.
DELETE FROM correction c
WHERE c.scan_id = %(scan_id)s
  AND EXISTS (SELECT
              FROM unnest(ARRAY[c.instance_no, c.object_no]) AS named (instance_no)
              WHERE named.instance_no IS NOT NULL
                AND NOT EXISTS (SELECT
                                FROM subgraph_member m
                                JOIN subgraph g USING (scan_id, subgraph_no)
                                WHERE (m.scan_id, m.instance_no) = (c.scan_id, named.instance_no)
                                  AND g.method = '3dssg'))
