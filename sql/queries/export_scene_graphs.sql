-- name: export_node_vectors
SELECT instance_no, embedding FROM node_feature WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s

-- name: export_pair_vectors
SELECT instance_a, instance_b, embedding
FROM pair_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s

-- name: export_labels
SELECT instance, label FROM v_instance_label WHERE scan_id = %(scan_id)s ORDER BY instance
