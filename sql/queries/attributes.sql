-- name: attributes_clear
DELETE FROM instance_attribute WHERE scan_id = %(scan_id)s

-- name: attributes_add
INSERT INTO instance_attribute (scan_id, instance_no, kind, term_id)
SELECT %(scan_id)s, instance_no, kind, term_id
FROM unnest(%(numbers)s::integer[], %(kinds)s::text[], %(term_ids)s::integer[]) AS new (instance_no, kind, term_id)
