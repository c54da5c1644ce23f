-- name: pairs_without_features
SELECT count(*)
FROM pair p
WHERE p.scan_id = %(scan_id)s
  AND NOT EXISTS (SELECT FROM pair_feature f
                  WHERE (f.scan_id, f.instance_a, f.instance_b) = (p.scan_id, p.instance_a, p.instance_b)
                    AND f.encoder_id = %(encoder_id)s)

-- name: is_step_done
-- Whether a step is done with all chunks and up to date; no row: it was never at work.
SELECT bool_and(NOT stale) AND count(*) >= max(chunks)
FROM ledger
WHERE scan_id = %(scan_id)s AND step = %(step)s AND (%(variant)s::text IS NULL OR variant = %(variant)s)
HAVING count(*) > 0

-- name: pair_boxes
-- Of some pairs what their geometry says, and the camera of the frame that shows the lesser seen of both best.
SELECT p.instance_a, p.instance_b, a.aabb_min_m, a.aabb_max_m, b.aabb_min_m, b.aabb_max_m, p.min_distance_m,
       f.t_world_camera
FROM unnest(%(a)s::integer[], %(b)s::integer[]) AS asked (instance_a, instance_b)
JOIN pair p ON (p.scan_id, p.instance_a, p.instance_b) = (%(scan_id)s, asked.instance_a, asked.instance_b)
JOIN instance a ON (a.scan_id, a.instance_no) = (p.scan_id, p.instance_a)
JOIN instance b ON (b.scan_id, b.instance_no) = (p.scan_id, p.instance_b)
LEFT JOIN LATERAL (
    SELECT oa.frame_no
    FROM observation oa
    JOIN observation ob ON (ob.scan_id, ob.instance_no, ob.frame_no) = (p.scan_id, p.instance_b, oa.frame_no)
    WHERE (oa.scan_id, oa.instance_no) = (p.scan_id, p.instance_a)
    ORDER BY least(oa.visibility_ratio, ob.visibility_ratio) DESC, oa.visible_points + ob.visible_points DESC,
             oa.frame_no
    LIMIT 1) AS best ON true
LEFT JOIN frame f ON (f.scan_id, f.frame_no) = (p.scan_id, best.frame_no)
ORDER BY p.instance_a, p.instance_b

-- name: captions_there
SELECT subject_no, object_no, phrase_id IS NOT NULL
FROM relation_caption
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s

-- name: captions_clear
-- All captions of a scan by an encoder, or those of some pairs, in both directions.
DELETE FROM relation_caption
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s
  AND (%(a)s::integer[] IS NULL
       OR (least(subject_no, object_no), greatest(subject_no, object_no))
          IN (SELECT * FROM unnest(%(a)s::integer[], %(b)s::integer[])))

-- name: captions_mark_stale
UPDATE ledger l
SET stale = true
FROM encoder e
WHERE e.encoder_id = %(encoder_id)s
  AND l.scan_id = %(scan_id)s
  AND l.step = %(step)s
  AND l.variant = e.name || '@' || e.revision

-- name: captions_drop_renamed
-- What was said of instances by their names, when they are called otherwise, goes, and that work is stale.
WITH gone AS (DELETE FROM relation_caption c
              USING encoder e
              WHERE c.scan_id = %(scan_id)s
                AND e.encoder_id = c.encoder_id
                AND e.views = 'tokens'
                AND (c.subject_no = ANY (%(numbers)s::integer[]) OR c.object_no = ANY (%(numbers)s::integer[])))
UPDATE ledger l
SET stale = true
FROM encoder e
WHERE l.scan_id = %(scan_id)s
  AND l.step = %(step)s
  AND l.variant = e.name || '@' || e.revision
  AND e.views = 'tokens'

-- name: phrases_without_embedding
-- Phrases of an encoder's captions that the sentence encoder has not embedded.
SELECT t.text
FROM term t
WHERE t.term_id IN (SELECT phrase_id FROM relation_caption WHERE encoder_id = %(encoder_id)s)
  AND NOT EXISTS (SELECT FROM term_embedding te
                  WHERE te.term_id = t.term_id AND te.encoder_id = %(sentences_id)s)
ORDER BY t.text

-- name: texts_without_embedding
SELECT asked.text
FROM unnest(%(texts)s::text[]) AS asked (text)
WHERE NOT EXISTS (SELECT FROM term t
                  JOIN term_embedding te USING (term_id)
                  WHERE t.text = asked.text AND te.encoder_id = %(encoder_id)s)

-- name: relation_captions
-- What is said in a scan, by the active revision of an encoder or one by name@revision, or by all.
SELECT c.subject, c.subject_label, c.phrase, c.object, c.object_label, c.caption, c.encoder
FROM v_relation_caption c
WHERE c.scan_id = %(scan_id)s
  AND (%(encoder_id)s::integer IS NULL OR c.encoder_id = %(encoder_id)s)
  AND (%(instance)s::integer IS NULL OR %(instance)s IN (c.subject, c.object))
ORDER BY c.subject, c.object, c.encoder
