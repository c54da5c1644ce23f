-- Search by example.

CREATE OR REPLACE FUNCTION similar_instances_v1(of_scan text, of_instance integer, k integer, encoder text DEFAULT NULL,
                                                prediction text DEFAULT NULL, filters jsonb DEFAULT '{}',
                                                same_scan boolean DEFAULT false)
RETURNS TABLE (scan text, instance integer, label text, similarity real, centroid_m double precision[],
               dataset text, scan_id bigint)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
AS $$
#variable_conflict use_column
DECLARE
    known encoder;
    predicted prediction;
    own_id bigint := scene_scan_id_v1(of_scan);
    example vector;
    beside integer;
BEGIN
    IF (similar_instances_v1.encoder IS NULL) = (similar_instances_v1.prediction IS NULL) THEN
        RAISE EXCEPTION 'give an encoder or a prediction, and not both' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The nodes of the same scan are left out of more hits: a filter for them would keep the index away.
    IF similar_instances_v1.encoder IS NOT NULL THEN
        known := find_encoder_v1(similar_instances_v1.encoder);
        SELECT f.embedding::vector INTO example FROM node_feature f
        WHERE (f.scan_id, f.encoder_id, f.instance_no) = (own_id, known.encoder_id, of_instance);
        SELECT count(*) INTO beside FROM node_feature f
        WHERE f.scan_id = own_id AND f.encoder_id = known.encoder_id;
    ELSE
        predicted := find_prediction_v1(similar_instances_v1.prediction);
        SELECT n.embedding::vector INTO example FROM node_prediction n
        WHERE (n.scan_id, n.prediction_id, n.instance_no)
              = (own_id, predicted.prediction_id, of_instance);
        SELECT count(*) INTO beside FROM node_prediction n
        WHERE n.scan_id = own_id AND n.prediction_id = predicted.prediction_id;
    END IF;
    IF example IS NULL THEN
        RAISE EXCEPTION 'instance % of scan % has nothing to compare by %', of_instance,
            of_scan, coalesce(similar_instances_v1.encoder, similar_instances_v1.prediction)
            USING ERRCODE = 'no_data_found',
                  HINT = 'it is not there, or no frame shows it; `open3dsg show instances` lists those of a scan';
    END IF;
    beside := least(CASE WHEN same_scan THEN 1 ELSE beside END, 2147483647 - k);
    RETURN QUERY
    SELECT n.scan, n.instance, n.label, n.similarity, n.centroid_m, n.dataset, n.scan_id
    FROM (
        SELECT s.scan, s.instance, s.label, s.similarity, s.centroid_m, s.dataset, s.scan_id
        FROM search_nodes_v1(example, similar_instances_v1.encoder, k + beside, filters) AS s
        WHERE similar_instances_v1.encoder IS NOT NULL
        UNION ALL
        SELECT s.scan, s.instance, s.label, s.similarity, s.centroid_m, s.dataset, s.scan_id
        FROM search_predictions_v1(example, similar_instances_v1.prediction, k + beside, filters) AS s
        WHERE similar_instances_v1.prediction IS NOT NULL
    ) AS n
    WHERE CASE WHEN same_scan THEN (n.scan_id, n.instance) <> (own_id, of_instance)
               ELSE n.scan_id <> own_id END
    ORDER BY n.similarity DESC, n.scan_id, n.instance
    LIMIT k;
END
$$;
COMMENT ON FUNCTION similar_instances_v1 IS
    'the k nodes most similar to an instance, of other scans or, with same_scan, of all; filters as those of'
    ' search_nodes_v1';
