DROP TABLE rescan_object, correction;

UPDATE instance
SET centroid_m = NULL, aabb_min_m = NULL, aabb_max_m = NULL, obb_centre_m = NULL, obb_axes = NULL, obb_lengths_m = NULL
WHERE point_count = 0 AND centroid_m IS NOT NULL;
ALTER TABLE instance
    DROP CONSTRAINT instance_centroid_m_check,
    ADD CONSTRAINT instance_centroid_m_check CHECK ((point_count = 0) = (centroid_m IS NULL));
COMMENT ON COLUMN instance.centroid_m IS 'null where the instance has no points';
