-- Core tables: scans and their geometry, frames, instances, observations, features, annotations, ledger.
-- The vector extension is there already: open3dsg.db.migrate creates it.

CREATE TABLE dataset (
    dataset_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    layout TEXT NOT NULL,
    root TEXT,
    CONSTRAINT dataset_pkey PRIMARY KEY (dataset_id),
    CONSTRAINT dataset_name_key UNIQUE (name)
);
COMMENT ON COLUMN dataset.layout IS 'which reader: 3rscan, ...';
COMMENT ON COLUMN dataset.root IS 'folder that URIs are relative to; null where only annotations are known';

CREATE TABLE encoder (
    encoder_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    revision TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    views TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    CONSTRAINT encoder_pkey PRIMARY KEY (encoder_id),
    CONSTRAINT encoder_name_revision_key UNIQUE (name, revision),
    CONSTRAINT encoder_dimension_check CHECK (dimension BETWEEN 1 AND 4000)
);
CREATE UNIQUE INDEX encoder_one_active_idx ON encoder (name) WHERE is_active;
COMMENT ON COLUMN encoder.revision IS 'hash of the weights and options';
COMMENT ON COLUMN encoder.views IS 'what it is shown: crops or pixels';
COMMENT ON COLUMN encoder.is_active IS 'the revision that the bare name means';

CREATE TABLE store_meta (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT store_meta_pkey PRIMARY KEY (key)
);
COMMENT ON TABLE store_meta IS 'facts about the store itself, such as the hash of the installed sql/ folder';

CREATE TABLE term (
    term_id INTEGER GENERATED ALWAYS AS IDENTITY,
    text TEXT NOT NULL,
    CONSTRAINT term_pkey PRIMARY KEY (term_id),
    CONSTRAINT term_text_key UNIQUE (text),
    CONSTRAINT term_text_check CHECK (char_length(text) BETWEEN 1 AND 500)
);
COMMENT ON TABLE term IS 'every word or phrase: labels, predicates and asked queries share these ids';

CREATE TABLE vocabulary (
    vocabulary_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    CONSTRAINT vocabulary_pkey PRIMARY KEY (vocabulary_id),
    CONSTRAINT vocabulary_kind_check CHECK (kind IN ('class', 'predicate', 'query')),
    CONSTRAINT vocabulary_name_key UNIQUE (name)
);
COMMENT ON TABLE vocabulary IS 'a named list of terms: classes, predicates, or the words that were asked';

CREATE TABLE scan (
    scan_id BIGINT GENERATED ALWAYS AS IDENTITY,
    dataset_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    split TEXT,
    point_count INTEGER,
    colour_source TEXT,
    reference_name TEXT,
    t_reference_scan double precision[],
    CONSTRAINT scan_pkey PRIMARY KEY (scan_id),
    CONSTRAINT scan_dataset_id_name_key UNIQUE (dataset_id, name),
    CONSTRAINT scan_t_reference_scan_check CHECK (cardinality(t_reference_scan) = 16),
    CONSTRAINT scan_dataset_id_fkey FOREIGN KEY(dataset_id) REFERENCES dataset (dataset_id)
);
COMMENT ON COLUMN scan.point_count IS 'null: geometry absent, only annotations are known';
COMMENT ON COLUMN scan.colour_source IS 'texture, vertex, frames or none';
COMMENT ON COLUMN scan.reference_name IS 'reference scan of a rescan, by name';
COMMENT ON COLUMN scan.t_reference_scan IS '4x4 row-major, maps this scan into its reference';

CREATE TABLE term_embedding (
    encoder_id INTEGER NOT NULL,
    term_id INTEGER NOT NULL,
    embedding HALFVEC NOT NULL,
    CONSTRAINT term_embedding_pkey PRIMARY KEY (encoder_id, term_id),
    CONSTRAINT term_embedding_encoder_id_fkey FOREIGN KEY(encoder_id) REFERENCES encoder (encoder_id) ON DELETE CASCADE,
    CONSTRAINT term_embedding_term_id_fkey FOREIGN KEY(term_id) REFERENCES term (term_id) ON DELETE CASCADE
);

CREATE TABLE vocabulary_term (
    vocabulary_id INTEGER NOT NULL,
    term_id INTEGER NOT NULL,
    position INTEGER,
    CONSTRAINT vocabulary_term_pkey PRIMARY KEY (vocabulary_id, term_id),
    CONSTRAINT vocabulary_term_vocabulary_id_fkey FOREIGN KEY(vocabulary_id) REFERENCES vocabulary (vocabulary_id) ON DELETE CASCADE,
    CONSTRAINT vocabulary_term_term_id_fkey FOREIGN KEY(term_id) REFERENCES term (term_id)
);
COMMENT ON COLUMN vocabulary_term.position IS 'place in the list, from 0; null where the list has no order';

CREATE TABLE frame (
    scan_id BIGINT NOT NULL,
    frame_no INTEGER NOT NULL,
    image_uri TEXT NOT NULL,
    image_size INTEGER[] NOT NULL,
    image_intrinsics double precision[] NOT NULL,
    depth_uri TEXT,
    depth_size INTEGER[],
    depth_intrinsics double precision[],
    depth_unit_m double precision,
    t_world_camera double precision[] NOT NULL,
    CONSTRAINT frame_pkey PRIMARY KEY (scan_id, frame_no),
    CONSTRAINT frame_t_world_camera_check CHECK (cardinality(t_world_camera) = 16),
    CONSTRAINT frame_depth_check CHECK (depth_uri IS NULL OR (depth_size IS NOT NULL AND depth_intrinsics IS NOT NULL AND depth_unit_m IS NOT NULL)),
    CONSTRAINT frame_scan_id_fkey FOREIGN KEY(scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE
);
COMMENT ON COLUMN frame.image_size IS 'width, height';
COMMENT ON COLUMN frame.image_intrinsics IS 'fx, fy, cx, cy in pixels';
COMMENT ON COLUMN frame.depth_unit_m IS 'metres a depth unit';
COMMENT ON COLUMN frame.t_world_camera IS '4x4 row-major, camera to world';

CREATE TABLE instance (
    scan_id BIGINT NOT NULL,
    instance_no INTEGER NOT NULL,
    label_id INTEGER NOT NULL,
    point_count INTEGER NOT NULL,
    centroid_m double precision[],
    aabb_min_m double precision[],
    aabb_max_m double precision[],
    obb_centre_m double precision[],
    obb_axes double precision[],
    obb_lengths_m double precision[],
    CONSTRAINT instance_pkey PRIMARY KEY (scan_id, instance_no),
    CONSTRAINT instance_centroid_m_check CHECK ((point_count = 0) = (centroid_m IS NULL)),
    CONSTRAINT instance_scan_id_fkey FOREIGN KEY(scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE,
    CONSTRAINT instance_label_id_fkey FOREIGN KEY(label_id) REFERENCES term (term_id)
);
CREATE INDEX instance_label_id_idx ON instance (label_id);
COMMENT ON COLUMN instance.instance_no IS 'the dataset''s own number';
COMMENT ON COLUMN instance.centroid_m IS 'null where the instance has no points';
COMMENT ON COLUMN instance.obb_axes IS '3x3 row-major, a unit axis a row';

CREATE TABLE ledger (
    scan_id BIGINT NOT NULL,
    step TEXT NOT NULL,
    variant TEXT NOT NULL,
    chunk INTEGER NOT NULL,
    step_version INTEGER NOT NULL,
    options_hash TEXT NOT NULL,
    options JSONB NOT NULL,
    chunks INTEGER NOT NULL,
    counts JSONB NOT NULL,
    problems JSONB NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT ledger_pkey PRIMARY KEY (scan_id, step, variant, chunk),
    CONSTRAINT ledger_scan_id_fkey FOREIGN KEY(scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE
);
COMMENT ON TABLE ledger IS 'what is done, written in the transaction of the rows it speaks of';
COMMENT ON COLUMN ledger.variant IS 'what of the step: an encoder''s name, or empty';
COMMENT ON COLUMN ledger.chunks IS 'how many chunks the work has in all';
COMMENT ON COLUMN ledger.problems IS 'what was left out: [{kind, detail}, ...]';

CREATE TABLE point_block (
    scan_id BIGINT NOT NULL,
    block_no INTEGER NOT NULL,
    point_count INTEGER NOT NULL,
    xyz_m BYTEA NOT NULL,
    rgb BYTEA NOT NULL,
    instance_no BYTEA NOT NULL,
    normals BYTEA,
    CONSTRAINT point_block_pkey PRIMARY KEY (scan_id, block_no),
    CONSTRAINT point_block_xyz_m_check CHECK (octet_length(xyz_m) = 12 * point_count),
    CONSTRAINT point_block_rgb_check CHECK (octet_length(rgb) = 3 * point_count),
    CONSTRAINT point_block_instance_no_check CHECK (octet_length(instance_no) = 4 * point_count),
    CONSTRAINT point_block_normals_check CHECK (octet_length(normals) = 12 * point_count),
    CONSTRAINT point_block_scan_id_fkey FOREIGN KEY(scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE
);
COMMENT ON COLUMN point_block.xyz_m IS 'float32 little-endian, point by point';
COMMENT ON COLUMN point_block.rgb IS 'uint8';
COMMENT ON COLUMN point_block.instance_no IS 'int32 little-endian, -1 is background';
COMMENT ON COLUMN point_block.normals IS 'float32 little-endian';

CREATE TABLE subgraph (
    scan_id BIGINT NOT NULL,
    subgraph_no INTEGER NOT NULL,
    method TEXT NOT NULL,
    CONSTRAINT subgraph_pkey PRIMARY KEY (scan_id, subgraph_no),
    CONSTRAINT subgraph_scan_id_fkey FOREIGN KEY(scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE
);
COMMENT ON COLUMN subgraph.method IS '3dssg: given by the annotations';

CREATE TABLE node_feature (
    scan_id BIGINT NOT NULL,
    encoder_id INTEGER NOT NULL,
    instance_no INTEGER NOT NULL,
    embedding HALFVEC NOT NULL,
    frame_nos INTEGER[] NOT NULL,
    boxes SMALLINT[] NOT NULL,
    weights REAL[] NOT NULL,
    CONSTRAINT node_feature_pkey PRIMARY KEY (scan_id, encoder_id, instance_no),
    CONSTRAINT node_feature_scan_id_instance_no_fkey FOREIGN KEY(scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT node_feature_encoder_id_fkey FOREIGN KEY(encoder_id) REFERENCES encoder (encoder_id) ON DELETE CASCADE
);
CREATE INDEX node_feature_encoder_id_idx ON node_feature (encoder_id);
COMMENT ON COLUMN node_feature.embedding IS 'unit length; absent row: no feature';
COMMENT ON COLUMN node_feature.frame_nos IS 'evidence: the frame of each view';
COMMENT ON COLUMN node_feature.boxes IS 'x0, y0, x1, y1 a view, on the photo';
COMMENT ON COLUMN node_feature.weights IS 'weight of each view in the mean';

CREATE TABLE observation (
    scan_id BIGINT NOT NULL,
    instance_no INTEGER NOT NULL,
    frame_no INTEGER NOT NULL,
    visible_points INTEGER NOT NULL,
    unique_pixels INTEGER NOT NULL,
    visibility_ratio REAL NOT NULL,
    pixel_box SMALLINT[] NOT NULL,
    pixels BYTEA NOT NULL,
    CONSTRAINT observation_pkey PRIMARY KEY (scan_id, instance_no, frame_no),
    CONSTRAINT observation_scan_id_instance_no_fkey FOREIGN KEY(scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT observation_scan_id_frame_no_fkey FOREIGN KEY(scan_id, frame_no) REFERENCES frame (scan_id, frame_no) ON DELETE CASCADE
);
CREATE INDEX observation_scan_id_frame_no_idx ON observation (scan_id, frame_no);
COMMENT ON COLUMN observation.visibility_ratio IS 'visible points / points of the instance';
COMMENT ON COLUMN observation.pixel_box IS 'x0, y0, x1, y1 inclusive, depth grid';
COMMENT ON COLUMN observation.pixels IS 'packed pixel ids, see docs/data-model.md';

CREATE TABLE subgraph_member (
    scan_id BIGINT NOT NULL,
    subgraph_no INTEGER NOT NULL,
    instance_no INTEGER NOT NULL,
    label_id INTEGER NOT NULL,
    CONSTRAINT subgraph_member_pkey PRIMARY KEY (scan_id, subgraph_no, instance_no),
    CONSTRAINT subgraph_member_scan_id_subgraph_no_fkey FOREIGN KEY(scan_id, subgraph_no) REFERENCES subgraph (scan_id, subgraph_no) ON DELETE CASCADE,
    CONSTRAINT subgraph_member_scan_id_instance_no_fkey FOREIGN KEY(scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT subgraph_member_label_id_fkey FOREIGN KEY(label_id) REFERENCES term (term_id)
);
CREATE INDEX subgraph_member_scan_id_instance_no_idx ON subgraph_member (scan_id, instance_no);

CREATE TABLE relationship (
    scan_id BIGINT NOT NULL,
    subgraph_no INTEGER NOT NULL,
    subject_no INTEGER NOT NULL,
    object_no INTEGER NOT NULL,
    predicate_id INTEGER NOT NULL,
    CONSTRAINT relationship_pkey PRIMARY KEY (scan_id, subgraph_no, subject_no, object_no, predicate_id),
    CONSTRAINT relationship_scan_id_subgraph_no_subject_no_fkey FOREIGN KEY(scan_id, subgraph_no, subject_no) REFERENCES subgraph_member (scan_id, subgraph_no, instance_no) ON DELETE CASCADE,
    CONSTRAINT relationship_scan_id_subgraph_no_object_no_fkey FOREIGN KEY(scan_id, subgraph_no, object_no) REFERENCES subgraph_member (scan_id, subgraph_no, instance_no) ON DELETE CASCADE,
    CONSTRAINT relationship_not_self_check CHECK (subject_no <> object_no),
    CONSTRAINT relationship_predicate_id_fkey FOREIGN KEY(predicate_id) REFERENCES term (term_id)
);
CREATE INDEX relationship_predicate_id_idx ON relationship (predicate_id);

