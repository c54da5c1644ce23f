-- Two encoders, or two revisions of one, over the same instances.

CREATE OR REPLACE FUNCTION feature_diff_v1(encoder_a text, encoder_b text, pairs boolean DEFAULT false)
RETURNS TABLE (dataset text, scan text, instance integer, other integer, label text, other_label text,
               in_a boolean, in_b boolean, distance double precision)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    WITH a AS (SELECT (find_encoder_v1(encoder_a)).encoder_id),
         b AS (SELECT (find_encoder_v1(encoder_b)).encoder_id),
         compared AS (
            SELECT scan_id, instance_no, NULL::integer AS other_no,
                   of_a.embedding IS NOT NULL AS in_a, of_b.embedding IS NOT NULL AS in_b,
                   of_a.embedding <=> of_b.embedding AS distance
            FROM (SELECT * FROM node_feature WHERE encoder_id = (SELECT encoder_id FROM a)) of_a
            FULL JOIN (SELECT * FROM node_feature WHERE encoder_id = (SELECT encoder_id FROM b)) of_b
                USING (scan_id, instance_no)
            WHERE NOT pairs
            UNION ALL
            SELECT scan_id, instance_a, instance_b,
                   of_a.embedding IS NOT NULL, of_b.embedding IS NOT NULL, of_a.embedding <=> of_b.embedding
            FROM (SELECT * FROM pair_feature WHERE encoder_id = (SELECT encoder_id FROM a)) of_a
            FULL JOIN (SELECT * FROM pair_feature WHERE encoder_id = (SELECT encoder_id FROM b)) of_b
                USING (scan_id, instance_a, instance_b)
            WHERE pairs)
    SELECT d.name, s.name, c.instance_no, c.other_no, label.text, other_label.text, c.in_a, c.in_b, c.distance
    FROM compared c
    JOIN scan s USING (scan_id)
    JOIN dataset d USING (dataset_id)
    JOIN instance i USING (scan_id, instance_no)
    JOIN term label ON label.term_id = i.label_id
    LEFT JOIN instance o ON (o.scan_id, o.instance_no) = (c.scan_id, c.other_no)
    LEFT JOIN term other_label ON other_label.term_id = o.label_id
$$;
COMMENT ON FUNCTION feature_diff_v1 IS
    'cosine distance between what two encoders made of each node, or of each pair; null where one has no feature of it';
