-- name: search_triplets
SELECT dataset, scan, subject, subject_label, predicate, object, object_label, score, subject_similarity,
       predicate_similarity, object_similarity, distance_m, subject_centroid_m, object_centroid_m, frames
FROM search_triplets_v1(%(subject)s::vector, %(predicate)s::vector, %(object)s::vector, %(k)s, %(filters)s,
                        %(encoder)s, %(pair_encoder)s, %(prediction)s, %(words)s)

-- name: pair_encoders_to_ask
-- Those whose features of pairs are compared with words of their own, and those that say something of pairs.
SELECT e.name
FROM encoder e
WHERE e.is_active
  AND (e.views = 'crops' AND EXISTS (SELECT FROM pair_feature f WHERE f.encoder_id = e.encoder_id)
       OR EXISTS (SELECT FROM relation_caption c WHERE c.encoder_id = e.encoder_id))
ORDER BY e.name

-- name: pair_encoder_kind
-- As triplet_source_v1 chooses where the predicate is compared; null: there is nothing to compare.
SELECT CASE WHEN e.views = 'crops' AND EXISTS (SELECT FROM pair_feature f WHERE f.encoder_id = e.encoder_id)
            THEN 'features'
            WHEN EXISTS (SELECT FROM relation_caption c WHERE c.encoder_id = e.encoder_id)
            THEN 'captions' END
FROM encoder e
WHERE e.encoder_id = %(encoder_id)s

-- name: has_predicate
SELECT EXISTS (SELECT FROM term t
               WHERE lower(t.text) = lower(%(text)s)
                 AND EXISTS (SELECT FROM v_relation r WHERE r.predicate_id = t.term_id))

-- name: predicates_like
-- Annotated predicates that share a word or a piece with what was typed.
SELECT t.text
FROM term t
WHERE (strpos(lower(t.text), lower(%(text)s)) > 0 OR strpos(lower(%(text)s), lower(t.text)) > 0)
  AND EXISTS (SELECT FROM v_relation r WHERE r.predicate_id = t.term_id)
ORDER BY 1
LIMIT 5

-- name: instance_feature
SELECT embedding
FROM node_feature
WHERE (scan_id, encoder_id, instance_no) = (%(scan_id)s, %(encoder_id)s, %(instance)s)

-- name: instance_prediction
SELECT embedding
FROM node_prediction
WHERE (scan_id, prediction_id, instance_no) = (%(scan_id)s, %(prediction_id)s, %(instance)s)
