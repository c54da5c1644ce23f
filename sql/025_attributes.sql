-- What annotations say of instances beside their labels, by name.

CREATE OR REPLACE VIEW v_instance_attribute AS
SELECT d.name AS dataset,
       s.name AS scan,
       a.instance_no AS instance,
       label.text AS label,
       a.kind,
       attribute.text AS attribute,
       a.scan_id
FROM instance_attribute a
JOIN instance i USING (scan_id, instance_no)
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
JOIN term label ON label.term_id = i.label_id
JOIN term attribute ON attribute.term_id = a.term_id;
COMMENT ON VIEW v_instance_attribute IS
    'annotated attributes of instances, by name; kind as the annotations call it: color, material, shape, ...';
