-- Readable rows for people: names instead of ids.

CREATE OR REPLACE VIEW v_node AS
SELECT d.name AS dataset,
       s.name AS scan,
       i.instance_no AS instance,
       t.text AS label,
       i.centroid_m,
       i.point_count,
       i.aabb_min_m,
       i.aabb_max_m,
       i.scan_id
FROM instance i
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
JOIN term t ON t.term_id = i.label_id;
COMMENT ON VIEW v_node IS 'every instance of every scan, by name; centroid_m is null where nothing says where it is';

CREATE OR REPLACE VIEW v_relationship AS
SELECT d.name AS dataset,
       s.name AS scan,
       r.subgraph_no AS subgraph,
       r.subject_no AS subject,
       subject_label.text AS subject_label,
       predicate.text AS predicate,
       r.object_no AS object,
       object_label.text AS object_label,
       r.scan_id
FROM relationship r
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
JOIN term predicate ON predicate.term_id = r.predicate_id
JOIN subgraph_member a
    ON (a.scan_id, a.subgraph_no, a.instance_no) = (r.scan_id, r.subgraph_no, r.subject_no)
JOIN term subject_label ON subject_label.term_id = a.label_id
JOIN subgraph_member b
    ON (b.scan_id, b.subgraph_no, b.instance_no) = (r.scan_id, r.subgraph_no, r.object_no)
JOIN term object_label ON object_label.term_id = b.label_id;
COMMENT ON VIEW v_relationship IS 'annotated (subject, predicate, object) triples, by name';

CREATE OR REPLACE VIEW v_evidence AS
SELECT d.name AS dataset,
       s.name AS scan,
       f.instance_no AS instance,
       e.name AS encoder,
       e.revision,
       v.place AS view,
       v.frame_no AS frame,
       f.boxes[4 * v.place - 3 : 4 * v.place] AS box,
       v.weight,
       p.image_uri,
       f.scan_id
FROM node_feature f
JOIN encoder e USING (encoder_id)
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
CROSS JOIN LATERAL unnest(f.frame_nos, f.weights) WITH ORDINALITY AS v (frame_no, weight, place)
JOIN frame p ON (p.scan_id, p.frame_no) = (f.scan_id, v.frame_no);
COMMENT ON VIEW v_evidence IS 'the views behind each embedding: frame, box x0 y0 x1 y1 on the photo, weight';

CREATE OR REPLACE VIEW v_scan AS
SELECT d.name AS dataset,
       s.name AS scan,
       s.split,
       s.point_count AS points,
       (SELECT count(*) FROM frame f WHERE f.scan_id = s.scan_id) AS frames,
       -- Annotations may speak of more, and after masks were merged speak of others.
       (SELECT count(*) FROM instance i
        WHERE i.scan_id = s.scan_id AND (i.point_count > 0 OR s.point_count IS NULL)) AS instances,
       (SELECT count(*) FROM subgraph g WHERE g.scan_id = s.scan_id) AS subgraphs,
       (SELECT count(*) FROM relationship r WHERE r.scan_id = s.scan_id) AS relationships,
       (SELECT count(*) FROM observation o WHERE o.scan_id = s.scan_id) AS observations,
       (SELECT coalesce(jsonb_object_agg(n.name, n.nodes), '{}')
        FROM (SELECT e.name || '@' || e.revision AS name, count(*) AS nodes
              FROM node_feature f
              JOIN encoder e USING (encoder_id)
              WHERE f.scan_id = s.scan_id
              GROUP BY e.name, e.revision) n) AS features,
       (SELECT count(*)
        FROM (SELECT DISTINCT problem
              FROM ledger l, jsonb_array_elements(l.problems) AS problem
              WHERE l.scan_id = s.scan_id) AS told) AS problems,
       s.scan_id
FROM scan s
JOIN dataset d USING (dataset_id);
COMMENT ON VIEW v_scan IS 'what the store holds of each scan';
COMMENT ON COLUMN v_scan.instances IS 'those that have points; of a scan that was not read yet, those annotated';
