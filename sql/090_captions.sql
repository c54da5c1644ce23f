-- What encoders say of pairs, by name.

CREATE OR REPLACE VIEW v_relation_caption AS
SELECT d.name AS dataset,
       s.name AS scan,
       c.subject_no AS subject,
       subject_label.text AS subject_label,
       c.object_no AS object,
       object_label.text AS object_label,
       e.name || '@' || e.revision AS encoder,
       phrase.text AS phrase,
       c.caption,
       c.encoder_id,
       c.scan_id
FROM relation_caption c
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
JOIN encoder e USING (encoder_id)
JOIN instance a ON (a.scan_id, a.instance_no) = (c.scan_id, c.subject_no)
JOIN term subject_label ON subject_label.term_id = a.label_id
JOIN instance b ON (b.scan_id, b.instance_no) = (c.scan_id, c.object_no)
JOIN term object_label ON object_label.term_id = b.label_id
LEFT JOIN term phrase ON phrase.term_id = c.phrase_id;
COMMENT ON VIEW v_relation_caption IS
    'what each encoder says of a pair, by name, in one direction: phrase is what stands between the two names in the'
    ' whole caption, null where that has none';
