-- name: predictions
-- All, those of one run, or one by RUN:LABEL.
SELECT p.run_id, r.name, p.label, p.source, p.weight_2d,
       n.encoder_id, n.name, n.revision, n.dimension, n.is_active,
       w.encoder_id, w.name, w.revision, w.dimension, w.is_active,
       p.checkpoint_step, p.checkpoint_digest, p.options, p.prediction_id
FROM prediction p
JOIN run r USING (run_id)
JOIN encoder n ON n.encoder_id = p.node_words_id
LEFT JOIN encoder w ON w.encoder_id = p.relation_words_id
WHERE %(text)s::text IS NULL OR %(text)s IN (r.name, r.name || ':' || p.label)
ORDER BY r.name COLLATE "C", p.label COLLATE "C"

-- name: prediction_add
INSERT INTO prediction (run_id, label, source, weight_2d, node_words_id, relation_words_id, checkpoint_step,
                        checkpoint_digest, options, code_revision)
VALUES (%(run_id)s, %(label)s, %(source)s, %(weight_2d)s, %(node_words_id)s, %(relation_words_id)s,
        %(checkpoint_step)s, %(checkpoint_digest)s, %(options)s, %(code_revision)s)

-- name: prediction_hold_run
-- One at a time says what the predictions of a run are, until the end of its transaction.
SELECT FROM run WHERE run_id = %(run_id)s FOR NO KEY UPDATE

-- name: prediction_hold
SELECT prediction_id FROM prediction WHERE prediction_id = %(prediction_id)s FOR KEY SHARE

-- name: prediction_hold_alone
-- Nothing is written of it by others until the end of the transaction.
SELECT FROM prediction WHERE prediction_id = %(prediction_id)s FOR UPDATE

-- name: is_prediction_used
SELECT EXISTS (SELECT FROM ledger WHERE step = %(step)s AND variant = %(variant)s)
    OR EXISTS (SELECT FROM evaluation WHERE prediction_id = %(prediction_id)s)

-- name: prediction_counts
SELECT (SELECT count(*) FROM node_prediction WHERE prediction_id = %(prediction_id)s),
       (SELECT count(*) FROM edge_prediction WHERE prediction_id = %(prediction_id)s),
       (SELECT count(*) FROM evaluation WHERE prediction_id = %(prediction_id)s)

-- name: prediction_delete
DELETE FROM prediction WHERE prediction_id = %(prediction_id)s

-- name: prediction_forget
DELETE FROM ledger WHERE step = %(step)s AND variant = %(variant)s

-- name: nodes_predicted_clear
DELETE FROM node_prediction WHERE scan_id = %(scan_id)s AND prediction_id = %(prediction_id)s

-- name: edges_predicted_clear
DELETE FROM edge_prediction WHERE scan_id = %(scan_id)s AND prediction_id = %(prediction_id)s

-- name: nodes_predicted
SELECT instance_no, embedding, origin
FROM node_prediction
WHERE scan_id = %(scan_id)s AND prediction_id = %(prediction_id)s
ORDER BY instance_no

-- name: edges_predicted
SELECT e.subject_no, e.object_no, e.embedding, e.scores, e.caption, t.text, e.origin
FROM edge_prediction e
LEFT JOIN term t ON t.term_id = e.phrase_id
WHERE e.scan_id = %(scan_id)s AND e.prediction_id = %(prediction_id)s
ORDER BY e.subject_no, e.object_no

-- name: is_prediction_current
-- Whether nothing that a prediction of a scan was made of was made anew since; null: it was never made.
SELECT NOT EXISTS (SELECT
                   FROM ledger u
                   WHERE u.scan_id = l.scan_id
                     AND u.finished_at > l.finished_at
                     AND (u.step IN ('observe', 'graph')
                          OR (u.step, u.variant) IN (SELECT * FROM unnest(%(steps)s::text[], %(variants)s::text[]))))
FROM ledger l
WHERE l.scan_id = %(scan_id)s AND l.step = %(step)s AND l.variant = %(variant)s

-- name: predictions_drop_renamed
-- What was said of instances by their annotated labels, when they are called otherwise, goes; that work is stale.
WITH named AS (SELECT p.prediction_id, r.name || ':' || p.label AS variant
               FROM prediction p
               JOIN run r USING (run_id)
               WHERE p.options ->> 'names' = 'labels'),
     gone AS (DELETE FROM edge_prediction e
              USING named
              WHERE e.scan_id = %(scan_id)s
                AND e.prediction_id = named.prediction_id
                AND (e.subject_no = ANY (%(numbers)s::integer[]) OR e.object_no = ANY (%(numbers)s::integer[])))
UPDATE ledger l
SET stale = true
FROM named
WHERE l.scan_id = %(scan_id)s AND l.step = %(step)s AND l.variant = named.variant

-- name: unit_instances
-- The instances with points that training units of a scan hold.
SELECT DISTINCT m.instance_no
FROM subgraph g
JOIN subgraph_member m USING (scan_id, subgraph_no)
JOIN instance i USING (scan_id, instance_no)
WHERE g.scan_id = %(scan_id)s AND (g.method = 'full') = %(full)s AND i.point_count > 0
ORDER BY m.instance_no

-- name: unit_instance_pairs
-- Their pairs, a < b.
SELECT DISTINCT p.instance_a, p.instance_b
FROM subgraph g
JOIN subgraph_member a USING (scan_id, subgraph_no)
JOIN subgraph_member b USING (scan_id, subgraph_no)
JOIN pair p ON (p.scan_id, p.instance_a, p.instance_b) = (g.scan_id, a.instance_no, b.instance_no)
WHERE g.scan_id = %(scan_id)s AND (g.method = 'full') = %(full)s
  AND (g.max_distance_m IS NULL OR p.min_distance_m <= g.max_distance_m)
ORDER BY p.instance_a, p.instance_b

-- name: node_embeddings
SELECT instance_no, embedding
FROM node_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s
ORDER BY instance_no

-- name: pair_embeddings
SELECT instance_a, instance_b, embedding
FROM pair_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s
ORDER BY instance_a, instance_b

-- name: caption_embeddings
-- What an encoder says of pairs, with the phrases as another embeds them.
SELECT c.subject_no, c.object_no, c.caption, t.text, te.embedding
FROM relation_caption c
LEFT JOIN term t ON t.term_id = c.phrase_id
LEFT JOIN term_embedding te ON te.term_id = c.phrase_id AND te.encoder_id = %(words_id)s
WHERE c.scan_id = %(scan_id)s AND c.encoder_id = %(encoder_id)s
ORDER BY c.subject_no, c.object_no

-- name: vocabulary_vectors
SELECT term, wording, embedding
FROM vocabulary_vectors_v1(%(vocabulary)s, %(encoder_id)s)
ORDER BY term COLLATE "C", wording COLLATE "C"

-- name: first_pairs
-- A handful of pairs with features of an encoder, always the same while they are there.
SELECT scan_id, instance_a, instance_b
FROM pair_feature
WHERE encoder_id = %(encoder_id)s
ORDER BY scan_id, instance_a, instance_b
LIMIT 16

-- name: word_vectors
SELECT t.text, te.embedding
FROM term_embedding te
JOIN term t USING (term_id)
WHERE te.encoder_id = %(encoder_id)s AND t.text = ANY (%(texts)s::text[])

-- name: search_predictions
SELECT scan, instance, label, similarity, centroid_m, dataset
FROM search_predictions_v1(%(query)s::vector, %(prediction)s, %(k)s, %(filters)s)

-- name: predicted_triplets
WITH named AS (
    SELECT scan_id, instance, term
    FROM classify_predictions_v1(%(prediction)s, %(classes)s, 1, %(scan)s)
)
SELECT m.dataset, m.scan, m.subject, a.term, m.subject_label, m.predicate, m.object, b.term, m.object_label, m.rank,
       m.similarity, m.origin
FROM map_predicates_v1(%(prediction)s, %(predicates)s, %(k)s, %(scan)s) m
LEFT JOIN named a ON (a.scan_id, a.instance) = (m.scan_id, m.subject)
LEFT JOIN named b ON (b.scan_id, b.instance) = (m.scan_id, m.object)
ORDER BY m.scan_id, m.subject, m.object, m.rank
