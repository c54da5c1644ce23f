-- Units of the scans that _copy_scans.sql made: those of the scan that was copied, again and again, until there
-- are as many a scan as the setting bench.units says. Those that are there stay.

CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
SELECT c.old_id, c.new_id, g.subgraph_no AS old_no, number
FROM copied c
CROSS JOIN generate_series(0, current_setting('bench.units')::integer - 1) AS number
JOIN subgraph g
    ON g.scan_id = c.old_id
       AND g.subgraph_no = number % (SELECT count(*) FROM subgraph WHERE scan_id = c.old_id)
WHERE NOT EXISTS (SELECT FROM subgraph s WHERE (s.scan_id, s.subgraph_no) = (c.new_id, number));

INSERT INTO subgraph (scan_id, subgraph_no, method, centre_m, max_distance_m)
SELECT f.new_id, f.number, g.method, g.centre_m, g.max_distance_m
FROM fresh f
JOIN subgraph g ON (g.scan_id, g.subgraph_no) = (f.old_id, f.old_no);

INSERT INTO subgraph_member (scan_id, subgraph_no, instance_no, label_id)
SELECT f.new_id, f.number, m.instance_no, m.label_id
FROM fresh f
JOIN subgraph_member m ON (m.scan_id, m.subgraph_no) = (f.old_id, f.old_no);

INSERT INTO relationship (scan_id, subgraph_no, subject_no, object_no, predicate_id)
SELECT f.new_id, f.number, r.subject_no, r.object_no, r.predicate_id
FROM fresh f
JOIN relationship r ON (r.scan_id, r.subgraph_no) = (f.old_id, f.old_no);
