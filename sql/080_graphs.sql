-- Training units: what each holds, and why a trainer would pass over it.

CREATE OR REPLACE VIEW v_subgraph_relation AS
SELECT DISTINCT g.scan_id,
                g.subgraph_no AS subgraph,
                r.subject_no AS subject,
                r.object_no AS object,
                r.predicate_id
FROM subgraph g
JOIN relationship r ON r.scan_id = g.scan_id AND (r.subgraph_no = g.subgraph_no OR g.method = 'full')
JOIN subgraph_member a
    ON (a.scan_id, a.subgraph_no, a.instance_no) = (g.scan_id, g.subgraph_no, r.subject_no)
JOIN subgraph_member b
    ON (b.scan_id, b.subgraph_no, b.instance_no) = (g.scan_id, g.subgraph_no, r.object_no);
COMMENT ON VIEW v_subgraph_relation IS
    'the annotated relations of every training unit: its own; of the graph of a whole scan, those of all given'
    ' subgraphs between its objects, each once and however far apart they are';

CREATE OR REPLACE VIEW v_subgraph AS
SELECT d.name AS dataset,
       s.name AS scan,
       s.split,
       g.subgraph_no AS subgraph,
       g.method,
       member.objects,
       member.objects_with_points,
       CASE WHEN done.observed THEN member.visible_objects END AS visible_objects,
       pairs.pairs,
       relations.relations,
       CASE WHEN member.objects_with_points < 2 THEN 'too few objects'
            WHEN done.observed AND member.visible_objects < 4 THEN 'too few visible'
            WHEN done.built IS NULL THEN 'not built'
            WHEN NOT done.built THEN 'stale'
            WHEN pairs.pairs = 0 THEN 'no pairs' END AS reason,
       g.scan_id
FROM subgraph g
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(NOT l.stale) FILTER (WHERE l.step = 'observe'), false) AS observed,
           bool_and(NOT l.stale) FILTER (
               WHERE l.step = 'graph' AND l.variant = CASE g.method WHEN 'full' THEN 'full' ELSE 'subgraphs' END
           ) AS built
    FROM ledger l
    WHERE l.scan_id = g.scan_id) AS done
CROSS JOIN LATERAL (
    SELECT count(*) AS objects,
           count(*) FILTER (WHERE i.point_count > 0) AS objects_with_points,
           count(*) FILTER (WHERE EXISTS (
               SELECT FROM observation o WHERE (o.scan_id, o.instance_no) = (i.scan_id, i.instance_no)
           )) AS visible_objects
    FROM subgraph_member m
    JOIN instance i USING (scan_id, instance_no)
    WHERE (m.scan_id, m.subgraph_no) = (g.scan_id, g.subgraph_no)) AS member
CROSS JOIN LATERAL (
    SELECT count(*) AS pairs
    FROM subgraph_member a
    JOIN pair p ON (p.scan_id, p.instance_a) = (a.scan_id, a.instance_no)
    JOIN subgraph_member b
        ON (b.scan_id, b.subgraph_no, b.instance_no) = (a.scan_id, a.subgraph_no, p.instance_b)
    WHERE (a.scan_id, a.subgraph_no) = (g.scan_id, g.subgraph_no)
      AND (g.max_distance_m IS NULL OR p.min_distance_m <= g.max_distance_m)) AS pairs
CROSS JOIN LATERAL (
    SELECT count(*) AS relations
    FROM v_subgraph_relation r
    WHERE (r.scan_id, r.subgraph) = (g.scan_id, g.subgraph_no)) AS relations;
COMMENT ON VIEW v_subgraph IS
    'every training unit: how much it holds, and the reason, if any, for which a trainer passes over it;'
    ' visible_objects is null where the scan was not observed';
