-- Which frames show both ends of a pair: where a relation between them can be looked at.

CREATE OR REPLACE VIEW v_pair_frame AS
SELECT d.name AS dataset,
       s.name AS scan,
       p.instance_a,
       p.instance_b,
       a.frame_no AS frame,
       a.visible_points AS visible_points_a,
       b.visible_points AS visible_points_b,
       a.visibility_ratio AS visibility_ratio_a,
       b.visibility_ratio AS visibility_ratio_b,
       a.pixel_box AS pixel_box_a,
       b.pixel_box AS pixel_box_b,
       p.scan_id
FROM pair p
JOIN observation a ON (a.scan_id, a.instance_no) = (p.scan_id, p.instance_a)
JOIN observation b ON (b.scan_id, b.instance_no, b.frame_no) = (p.scan_id, p.instance_b, a.frame_no)
JOIN scan s ON s.scan_id = p.scan_id
JOIN dataset d USING (dataset_id);
COMMENT ON VIEW v_pair_frame IS
    'the frames that show both instances of a pair, with the visible points, their share and the pixel box of each';
