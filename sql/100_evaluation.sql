-- What evaluations judged: by name, and the figures again out of the rows.

CREATE OR REPLACE VIEW v_judged_member AS
SELECT u.scan_id, u.subgraph AS subgraph_no, m.instance_no, m.label_id
FROM v_subgraph u
JOIN subgraph_member m ON (m.scan_id, m.subgraph_no) = (u.scan_id, u.subgraph)
JOIN instance i ON (i.scan_id, i.instance_no) = (m.scan_id, m.instance_no)
WHERE u.method <> 'full'
  AND u.reason IS NULL
  AND u.visible_objects IS NOT NULL
  AND i.point_count > 0
  AND EXISTS (SELECT FROM observation o WHERE (o.scan_id, o.instance_no) = (m.scan_id, m.instance_no));
COMMENT ON VIEW v_judged_member IS
    'the objects of subgraphs that the published protocol judges: those that a frame shows, of subgraphs that a trainer takes';

CREATE OR REPLACE VIEW v_evaluation_rank AS
SELECT r.name || ':' || p.label AS prediction,
       e.protocol,
       k.kind,
       d.name AS dataset,
       s.name AS scan,
       k.subgraph_no AS subgraph,
       k.subject_no AS subject,
       subject_label.text AS subject_label,
       truth.text AS truth,
       k.object_no AS object,
       object_label.text AS object_label,
       k.rank,
       predicted.text AS predicted,
       k.evaluation_id,
       k.scan_id,
       k.item_no
FROM evaluation_rank k
JOIN evaluation e USING (evaluation_id)
JOIN prediction p USING (prediction_id)
JOIN run r USING (run_id)
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
JOIN term subject_label ON subject_label.term_id = k.subject_label_id
JOIN term truth ON truth.term_id = k.term_id
LEFT JOIN term object_label ON object_label.term_id = k.object_label_id
LEFT JOIN term predicted ON predicted.term_id = k.predicted_id;
COMMENT ON VIEW v_evaluation_rank IS
    'every annotation that was judged, by name: what is true, what was predicted first, and at which place the truth was';

CREATE OR REPLACE FUNCTION evaluation_recall_v1(of_evaluation integer, of_kind text, k integer)
RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT avg(u.recall)
    FROM (SELECT avg((coalesce(r.rank, 2147483647) <= k)::integer)::double precision AS recall
          FROM evaluation_rank r
          WHERE r.evaluation_id = of_evaluation AND r.kind = of_kind
          GROUP BY r.scan_id, r.subgraph_no, CASE WHEN r.subgraph_no IS NULL THEN r.item_no END) AS u
$$;
COMMENT ON FUNCTION evaluation_recall_v1 IS
    'the share of annotations of a kind that are among the first k; what was judged in subgraphs is averaged in each first';

CREATE OR REPLACE FUNCTION evaluation_recall_by_class_v1(of_evaluation integer, of_kind text, k integer)
RETURNS TABLE (class text, annotations bigint, hits bigint, recall double precision, term_id integer)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT t.text, count(*), count(*) FILTER (WHERE r.rank <= k),
           count(*) FILTER (WHERE r.rank <= k)::double precision / count(*), t.term_id
    FROM evaluation_rank r
    JOIN term t USING (term_id)
    WHERE r.evaluation_id = of_evaluation AND r.kind = of_kind
    GROUP BY t.term_id
    ORDER BY t.text
$$;
COMMENT ON FUNCTION evaluation_recall_by_class_v1 IS
    'how many annotations of each class are among the first k, whatever subgraph they are in; a mean recall is the mean of these';
