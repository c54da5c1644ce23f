-- name: export_graphs
-- Subgraphs of scans as 3DSSG's files have them.
SELECT s.name, s.split, g.subgraph_no,
       (SELECT coalesce(json_object_agg(m.instance_no, t.text ORDER BY m.instance_no), '{}')
        FROM subgraph_member m
        JOIN term t ON t.term_id = m.label_id
        WHERE (m.scan_id, m.subgraph_no) = (g.scan_id, g.subgraph_no)),
       (SELECT coalesce(json_agg(json_build_array(r.subject, r.object, t.text)
                                 ORDER BY r.subject, r.object, t.text COLLATE "C"), '[]')
        FROM v_subgraph_relation r
        JOIN term t ON t.term_id = r.predicate_id
        WHERE (r.scan_id, r.subgraph) = (g.scan_id, g.subgraph_no))
FROM subgraph g
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
WHERE d.name = %(dataset)s AND s.name = ANY (%(scans)s) AND (g.method = 'full') = %(full)s
ORDER BY s.name COLLATE "C", g.subgraph_no

-- name: export_neighbours
SELECT s.name, json_object_agg(i.instance_no, to_json(i.neighbours) ORDER BY i.instance_no)
FROM instance_sample i
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
WHERE d.name = %(dataset)s AND s.name = ANY (%(scans)s)
GROUP BY s.name
ORDER BY s.name COLLATE "C"
