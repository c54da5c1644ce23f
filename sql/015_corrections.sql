-- What people say of labels and relations, beside what was annotated and predicted.
--
-- Scene graphs and searches read it; nothing that learns, predicts or judges does. Of several corrections of one
-- thing that stand the newest counts, so that reverting it shows the one before.

CREATE OR REPLACE VIEW v_corrected_label AS
SELECT DISTINCT ON (c.scan_id, c.instance_no)
       c.scan_id,
       c.instance_no AS instance,
       t.text AS label,
       c.author,
       c.made_at,
       c.correction_id
FROM correction c
JOIN term t USING (term_id)
WHERE c.kind = 'label' AND c.reverted_at IS NULL
ORDER BY c.scan_id, c.instance_no, c.correction_id DESC;
COMMENT ON VIEW v_corrected_label IS 'the label of every instance that somebody corrected: the newest that stands';

CREATE OR REPLACE VIEW v_corrected_relation AS
SELECT DISTINCT ON (c.scan_id, c.instance_no, c.object_no, c.term_id)
       c.scan_id,
       c.instance_no AS subject,
       t.text AS predicate,
       c.object_no AS object,
       c.holds,
       c.author,
       c.made_at,
       c.correction_id,
       c.term_id AS predicate_id
FROM correction c
JOIN term t USING (term_id)
WHERE c.kind = 'relation' AND c.reverted_at IS NULL
ORDER BY c.scan_id, c.instance_no, c.object_no, c.term_id, c.correction_id DESC;
COMMENT ON VIEW v_corrected_relation IS
    'every relation of which somebody said that it holds, or does not: the newest word that stands';

CREATE OR REPLACE VIEW v_instance_label AS
SELECT i.scan_id,
       i.instance_no AS instance,
       coalesce(told.label, t.text) AS label,
       t.text AS annotated_label,
       told.label IS NOT NULL AS is_corrected
FROM instance i
JOIN term t ON t.term_id = i.label_id
LEFT JOIN LATERAL (
    -- One at a time: whoever asks for some instances does not read the corrections of all.
    SELECT term.text AS label
    FROM correction c
    JOIN term USING (term_id)
    WHERE (c.scan_id, c.instance_no) = (i.scan_id, i.instance_no) AND c.kind = 'label' AND c.reverted_at IS NULL
    ORDER BY c.correction_id DESC
    LIMIT 1) AS told ON true;
COMMENT ON VIEW v_instance_label IS 'what every instance is called: as corrected, else as annotated';

CREATE OR REPLACE VIEW v_correction AS
SELECT c.correction_id,
       d.name AS dataset,
       s.name AS scan,
       c.kind,
       c.instance_no AS instance,
       instance_label.text AS instance_label,
       c.object_no AS object,
       object_label.text AS object_label,
       told.text AS text,
       c.holds,
       c.author,
       c.made_at,
       c.reverted_by,
       c.reverted_at,
       c.reverted_at IS NULL AND NOT EXISTS (
           SELECT
           FROM correction newer
           WHERE newer.scan_id = c.scan_id
             AND newer.instance_no = c.instance_no
             AND newer.object_no IS NOT DISTINCT FROM c.object_no
             AND (c.kind = 'label' OR newer.term_id = c.term_id)
             AND newer.correction_id > c.correction_id
             AND newer.reverted_at IS NULL) AS in_force,
       c.scan_id
FROM correction c
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
JOIN term told ON told.term_id = c.term_id
JOIN instance i ON (i.scan_id, i.instance_no) = (c.scan_id, c.instance_no)
JOIN term instance_label ON instance_label.term_id = i.label_id
LEFT JOIN instance o ON (o.scan_id, o.instance_no) = (c.scan_id, c.object_no)
LEFT JOIN term object_label ON object_label.term_id = o.label_id;
COMMENT ON VIEW v_correction IS 'every correction ever made, by name; instance_label and object_label are as annotated';
COMMENT ON COLUMN v_correction.instance IS 'of a relation its subject';
COMMENT ON COLUMN v_correction.text IS 'the label, or the predicate';
COMMENT ON COLUMN v_correction.in_force IS 'it stands, and no newer one of the same thing does';

CREATE OR REPLACE FUNCTION label_condition_v1(label text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    few constant integer := coalesce(nullif(current_setting('open3dsg.exact_rows', true), '')::integer, 20000);
    standing constant text := 'SELECT c.scan_id, c.instance_no FROM correction c'
                              ' WHERE c.kind = ''label'' AND c.reverted_at IS NULL';
    label_ids constant integer[] := ARRAY(SELECT t.term_id
                                          FROM term t
                                          WHERE lower(t.text) = lower(label_condition_v1.label)
                                          ORDER BY t.term_id);
    annotated text := format('i.label_id = ANY (%L::integer[])', label_ids);
    gained text;
BEGIN
    SELECT string_agg(format('(%s, %s)', c.scan_id, c.instance_no), ', ') INTO gained
    FROM correction c
    WHERE c.term_id = ANY (label_ids) AND c.kind = 'label' AND c.reverted_at IS NULL
      AND NOT EXISTS (SELECT
                      FROM correction newer
                      WHERE (newer.scan_id, newer.instance_no) = (c.scan_id, c.instance_no)
                        AND newer.correction_id > c.correction_id
                        AND newer.kind = 'label' AND newer.reverted_at IS NULL);
    IF gained IS NOT NULL
       AND (SELECT count(*) > few
            FROM (SELECT FROM instance i WHERE i.label_id = ANY (label_ids) LIMIT few + 1) AS called_so) THEN
        -- So many that a search goes by the index over embeddings, and this is a filter of what that gives.
        RETURN format('(%s AND (i.scan_id, i.instance_no) NOT IN (%s) OR (i.scan_id, i.instance_no) IN (VALUES %s))',
                      annotated, standing, gained);
    END IF;
    IF EXISTS (SELECT FROM correction c WHERE c.kind = 'label' AND c.reverted_at IS NULL) THEN
        annotated := format('%s AND NOT EXISTS (%s AND (c.scan_id, c.instance_no) = (i.scan_id, i.instance_no))',
                            annotated, standing);
    END IF;
    -- A set to join with: for an OR all instances would be read.
    RETURN CASE WHEN gained IS NULL THEN annotated
                ELSE format('(i.scan_id, i.instance_no) IN (SELECT i.scan_id, i.instance_no FROM instance i WHERE %s'
                            ' UNION ALL VALUES %s)', annotated, gained) END;
END
$$;
COMMENT ON FUNCTION label_condition_v1 IS
    'the SQL condition that instance i is called so, whatever the case: as corrected, else as annotated';
