-- Training units: built subgraphs beside the given ones, samples of instances, geometry of pairs.

ALTER TABLE subgraph
    ADD COLUMN centre_m DOUBLE PRECISION[],
    ADD COLUMN max_distance_m DOUBLE PRECISION,
    ADD CONSTRAINT subgraph_centre_m_check CHECK (cardinality(centre_m) = 3),
    ADD CONSTRAINT subgraph_number_check CHECK ((subgraph_no < 0) = (method = 'full'));
COMMENT ON COLUMN subgraph.method IS
    '3dssg: given by the annotations; window: of the objects around a place; full: of the whole scan, numbered -1';
COMMENT ON COLUMN subgraph.centre_m IS 'the middle of the window; null where it is none';
COMMENT ON COLUMN subgraph.max_distance_m IS 'its pairs are not further apart than this; null: all pairs';

CREATE TABLE instance_sample (
    scan_id BIGINT NOT NULL,
    instance_no INTEGER NOT NULL,
    point_ids BYTEA NOT NULL,
    centre_m DOUBLE PRECISION[] NOT NULL,
    scale_m DOUBLE PRECISION NOT NULL,
    neighbours INTEGER[] NOT NULL,
    CONSTRAINT instance_sample_pkey PRIMARY KEY (scan_id, instance_no),
    CONSTRAINT instance_sample_scan_id_instance_no_fkey
        FOREIGN KEY (scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT instance_sample_point_ids_check CHECK (mod(octet_length(point_ids), 4) = 0 AND octet_length(point_ids) > 0),
    CONSTRAINT instance_sample_centre_m_check CHECK (cardinality(centre_m) = 3)
);
COMMENT ON TABLE instance_sample IS 'the points of an instance that a model is shown, and the instances around it';
COMMENT ON COLUMN instance_sample.point_ids IS
    'places of points in the scan, int32 little-endian; the first n are a farthest-point sample of n';
COMMENT ON COLUMN instance_sample.centre_m IS 'mean of the sampled points';
COMMENT ON COLUMN instance_sample.scale_m IS 'distance of the furthest sampled point from the centre';
COMMENT ON COLUMN instance_sample.neighbours IS 'instance numbers, ascending';

CREATE TABLE pair (
    scan_id BIGINT NOT NULL,
    instance_a INTEGER NOT NULL,
    instance_b INTEGER NOT NULL,
    point_ids BYTEA NOT NULL,
    union_points INTEGER NOT NULL,
    offset_m DOUBLE PRECISION[] NOT NULL,
    min_distance_m DOUBLE PRECISION NOT NULL,
    closest_a INTEGER NOT NULL,
    closest_b INTEGER NOT NULL,
    CONSTRAINT pair_pkey PRIMARY KEY (scan_id, instance_a, instance_b),
    CONSTRAINT pair_scan_id_instance_a_fkey
        FOREIGN KEY (scan_id, instance_a) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT pair_scan_id_instance_b_fkey
        FOREIGN KEY (scan_id, instance_b) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT pair_order_check CHECK (instance_a < instance_b),
    CONSTRAINT pair_point_ids_check CHECK (mod(octet_length(point_ids), 4) = 0 AND octet_length(point_ids) > 0),
    CONSTRAINT pair_offset_m_check CHECK (cardinality(offset_m) = 3)
);
CREATE INDEX pair_scan_id_instance_b_idx ON pair (scan_id, instance_b);
COMMENT ON TABLE pair IS 'two instances, once whatever the direction and however many subgraphs share them';
COMMENT ON COLUMN pair.point_ids IS
    'places of points in the scan, of all that lie in the box of either, int32 little-endian; the first n are a'
    ' farthest-point sample of n';
COMMENT ON COLUMN pair.union_points IS 'points that lie in the box of either';
COMMENT ON COLUMN pair.offset_m IS 'centroid of b - centroid of a';
COMMENT ON COLUMN pair.min_distance_m IS 'between the points closest_a of a and closest_b of b';
COMMENT ON COLUMN pair.closest_a IS 'place of a point in the scan';
COMMENT ON COLUMN pair.closest_b IS 'place of a point in the scan';
