-- name: evaluation_scans
-- Which scans there are, whether anything was predicted of them, and whether they hold anything to judge.
SELECT s.scan_id, d.name, s.name,
       EXISTS (SELECT FROM node_prediction n
               WHERE n.scan_id = s.scan_id AND n.prediction_id = %(prediction_id)s) AS predicted,
       EXISTS (SELECT FROM subgraph g WHERE g.scan_id = s.scan_id) AS annotated
FROM scan s
JOIN dataset d USING (dataset_id)
WHERE (%(dataset)s::text IS NULL OR d.name = %(dataset)s)
  AND (%(split)s::text IS NULL OR %(split)s IN (s.split, 'all'))
ORDER BY d.name COLLATE "C", s.name COLLATE "C"

-- name: evaluation_may_keep
SELECT has_table_privilege('evaluation', 'INSERT') AND current_setting('transaction_read_only') = 'off', current_user

-- name: evaluation_words
-- Each word of a vocabulary with the class it stands for and, where an encoder is given, its embedding.
SELECT c.term_id, c.text, t.text, halfvec_send(te.embedding)
FROM vocabulary_term vt
JOIN term t USING (term_id)
JOIN term c ON c.term_id = coalesce(vt.stands_for, vt.term_id)
LEFT JOIN term_embedding te ON te.term_id = t.term_id AND te.encoder_id = %(encoder_id)s
WHERE vt.vocabulary_id = %(vocabulary_id)s
ORDER BY c.text COLLATE "C", t.text COLLATE "C"

-- name: evaluation_nodes
SELECT instance_no, halfvec_send(embedding)
FROM node_prediction
WHERE scan_id = %(scan_id)s AND prediction_id = %(prediction_id)s
ORDER BY instance_no

-- name: evaluation_edges
SELECT subject_no, object_no, halfvec_send(embedding), scores
FROM edge_prediction
WHERE scan_id = %(scan_id)s
  AND prediction_id = %(prediction_id)s
  AND (embedding IS NOT NULL OR scores IS NOT NULL)
ORDER BY subject_no, object_no

-- name: evaluation_subgraph_objects
SELECT subgraph_no, instance_no, label_id
FROM v_judged_member
WHERE scan_id = %(scan_id)s
ORDER BY subgraph_no, instance_no

-- name: evaluation_subgraph_pairs
-- Every directed pair of a subgraph with each of its predicates, or with none.
WITH member AS MATERIALIZED (
    SELECT * FROM v_judged_member WHERE scan_id = %(scan_id)s
)
SELECT a.subgraph_no, a.instance_no, a.label_id, b.instance_no, b.label_id, p.min_distance_m, r.predicate_id
FROM member a
JOIN member b ON b.subgraph_no = a.subgraph_no AND b.instance_no <> a.instance_no
JOIN subgraph g ON (g.scan_id, g.subgraph_no) = (a.scan_id, a.subgraph_no)
JOIN pair p ON p.scan_id = a.scan_id
    AND p.instance_a = least(a.instance_no, b.instance_no)
    AND p.instance_b = greatest(a.instance_no, b.instance_no)
LEFT JOIN relationship r ON (r.scan_id, r.subgraph_no, r.subject_no, r.object_no)
    = (a.scan_id, a.subgraph_no, a.instance_no, b.instance_no)
WHERE g.max_distance_m IS NULL OR p.min_distance_m <= g.max_distance_m
ORDER BY a.subgraph_no, a.instance_no, b.instance_no, r.predicate_id

-- name: evaluation_objects
-- Of an object that several subgraphs name the label in the first of them.
SELECT DISTINCT ON (u.instance) u.instance, m.label_id
FROM v_unit_member u
JOIN subgraph_member m ON (m.scan_id, m.subgraph_no, m.instance_no) = (u.scan_id, u.subgraph, u.instance)
WHERE u.scan_id = %(scan_id)s
ORDER BY u.instance, u.subgraph

-- name: evaluation_relations
SELECT DISTINCT r.subject_no, r.object_no, r.predicate_id
FROM relationship r
WHERE r.scan_id = %(scan_id)s AND r.subject_no <> r.object_no
ORDER BY r.subject_no, r.object_no, r.predicate_id

-- name: evaluation_attributes
SELECT a.instance_no, a.term_id
FROM instance_attribute a
JOIN instance i USING (scan_id, instance_no)
WHERE a.scan_id = %(scan_id)s AND a.kind = ANY (%(kinds)s) AND i.point_count > 0
ORDER BY a.instance_no, a.term_id

-- name: evaluation_class_counts
-- How often scans name each class: objects once each, relations once a scan.
WITH chosen AS MATERIALIZED (
    SELECT s.scan_id
    FROM scan s
    JOIN dataset d USING (dataset_id)
    WHERE d.name || '/' || s.name = ANY (%(scans)s)
)
SELECT 'object', m.label_id, count(DISTINCT (u.scan_id, u.instance))
FROM chosen
JOIN v_unit_member u USING (scan_id)
JOIN subgraph_member m ON (m.scan_id, m.subgraph_no, m.instance_no) = (u.scan_id, u.subgraph, u.instance)
GROUP BY m.label_id
UNION ALL
SELECT 'predicate', r.predicate_id, count(DISTINCT (r.scan_id, r.subject_no, r.object_no))
FROM chosen
JOIN relationship r USING (scan_id)
GROUP BY r.predicate_id

-- name: evaluation_term_texts
SELECT term_id, text FROM term WHERE term_id = ANY (%(term_ids)s::integer[])

-- name: evaluation_put
-- Judging again with the same options takes the place of what was found before.
INSERT INTO evaluation (prediction_id, protocol, options, options_hash, vocabularies, metrics, scans, code_revision)
VALUES (%(prediction_id)s, %(protocol)s, %(options)s, %(options_hash)s, %(vocabularies)s, %(metrics)s, %(scans)s,
        %(code_revision)s)
ON CONFLICT (prediction_id, protocol, options_hash) DO UPDATE
SET options = excluded.options, vocabularies = excluded.vocabularies, metrics = excluded.metrics,
    scans = excluded.scans, code_revision = excluded.code_revision, made_at = now()
RETURNING evaluation_id

-- name: evaluation_clear
DELETE FROM evaluation_rank WHERE evaluation_id = %(evaluation_id)s

-- name: evaluations
SELECT e.evaluation_id, r.name || ':' || p.label, e.protocol, e.options, e.vocabularies, e.metrics, e.scans,
       e.code_revision, e.made_at
FROM evaluation e
JOIN prediction p USING (prediction_id)
JOIN run r USING (run_id)
WHERE (%(prediction_id)s::integer IS NULL OR e.prediction_id = %(prediction_id)s)
  AND (%(protocol)s::text IS NULL OR e.protocol = %(protocol)s)
ORDER BY r.name, p.label, e.made_at, e.evaluation_id

-- name: evaluation_rows
-- The annotations of a class, or that have it at either end, hit or missed within k places.
SELECT dataset || '/' || scan, subgraph, subject, subject_label, truth, object, object_label, rank, predicted
FROM v_evaluation_rank
WHERE evaluation_id = %(evaluation_id)s
  AND kind = %(kind)s
  AND (%(class)s::text IS NULL OR %(class)s IN (subject_label, truth, object_label))
  AND (%(hit)s::boolean IS NULL OR (coalesce(rank, 2147483647) <= %(k)s) = %(hit)s)
ORDER BY dataset COLLATE "C", scan COLLATE "C", item_no

-- name: evaluation_classes
SELECT DISTINCT unnest(ARRAY[subject_label, truth, object_label])
FROM v_evaluation_rank
WHERE evaluation_id = %(evaluation_id)s AND kind = %(kind)s

-- name: evaluation_has_relations
SELECT EXISTS (SELECT FROM relationship WHERE scan_id = ANY (%(scan_ids)s::bigint[]))
