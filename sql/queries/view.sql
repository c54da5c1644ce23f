-- name: begin_viewing
-- A session that looks: it changes nothing, and asks nothing that takes very long.
SELECT set_config('default_transaction_read_only', 'on', false),
       set_config('statement_timeout', %(patience_ms)s::text, false)

-- name: is_there
SELECT true

-- name: may_correct
SELECT has_table_privilege('correction', 'INSERT, UPDATE')
   AND NOT pg_is_in_recovery()
   AND current_setting('transaction_read_only') = 'off'

-- name: scans_to_view
-- Scans of which there is something to draw.
SELECT d.name || '/' || s.name
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE s.point_count IS NOT NULL
   OR EXISTS (SELECT FROM instance i WHERE i.scan_id = s.scan_id AND i.centroid_m IS NOT NULL)
ORDER BY 1

-- name: count_instances
SELECT count(*) FROM instance

-- name: nearest_terms
SELECT c.term, c.similarity
FROM classify_nodes_v1(%(encoder)s, %(vocabulary)s, %(k)s, %(scan)s) c
WHERE c.scan_id = %(scan_id)s AND c.instance = %(instance)s
ORDER BY c.rank

-- name: nearest_terms_predicted
SELECT c.term, c.similarity
FROM classify_predictions_v1(%(prediction)s, %(vocabulary)s, %(k)s, %(scan)s) c
WHERE c.instance = %(instance)s
ORDER BY c.rank

-- name: nearest_predicates_predicted
SELECT m.predicate, m.similarity
FROM map_predicates_v1(%(prediction)s, %(vocabulary)s, %(k)s, %(scan)s) m
WHERE m.subject = %(subject)s AND m.object = %(object)s
ORDER BY m.rank

-- name: frames_of_both
-- The frames that show two instances, best first, with the pixel box of each on the depth grid.
SELECT a.frame_no, a.pixel_box, b.pixel_box
FROM observation a
JOIN observation b USING (scan_id, frame_no)
WHERE a.scan_id = %(scan_id)s AND a.instance_no = %(a)s AND b.instance_no = %(b)s
ORDER BY least(a.visibility_ratio, b.visibility_ratio) DESC, a.visible_points + b.visible_points DESC, a.frame_no
LIMIT %(k)s
