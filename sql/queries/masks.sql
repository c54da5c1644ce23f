-- name: has_instances_of_masks
SELECT EXISTS (SELECT FROM ledger WHERE scan_id = %(scan_id)s AND step = 'masks')

-- name: has_only_instances_of_masks
-- The files of the scan gave none: to read them again brings none back.
SELECT EXISTS (SELECT FROM ledger WHERE scan_id = %(scan_id)s AND step = 'masks')
   AND EXISTS (SELECT FROM ledger
               WHERE scan_id = %(scan_id)s AND step = 'ingest' AND (counts ->> 'instances')::bigint = 0)

-- name: has_instances_with_points
SELECT EXISTS (SELECT FROM instance WHERE scan_id = %(scan_id)s AND point_count > 0)

-- name: first_free_instance_no
-- Above all that annotations name: what they say of their instances is not true of others.
SELECT coalesce(max(m.instance_no), 0) + 1
FROM subgraph_member m
JOIN subgraph g USING (scan_id, subgraph_no)
WHERE m.scan_id = %(scan_id)s AND g.method = '3dssg'
