-- Training runs, what they predict, and how that is judged.

ALTER TABLE vocabulary_term ADD COLUMN stands_for INTEGER;
ALTER TABLE vocabulary_term
    ADD CONSTRAINT vocabulary_term_stands_for_fkey FOREIGN KEY (stands_for) REFERENCES term (term_id),
    ADD CONSTRAINT vocabulary_term_stands_for_check CHECK (stands_for <> term_id);
CREATE INDEX vocabulary_term_stands_for_idx ON vocabulary_term (stands_for);
COMMENT ON COLUMN vocabulary_term.stands_for IS
    'the term that is meant where this one is the nearest: another wording of it; null: itself';

CREATE TABLE instance_attribute (
    scan_id BIGINT NOT NULL,
    instance_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    term_id INTEGER NOT NULL,
    CONSTRAINT instance_attribute_pkey PRIMARY KEY (scan_id, instance_no, kind, term_id),
    CONSTRAINT instance_attribute_scan_id_instance_no_fkey
        FOREIGN KEY (scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT instance_attribute_term_id_fkey FOREIGN KEY (term_id) REFERENCES term (term_id),
    CONSTRAINT instance_attribute_kind_check CHECK (char_length(kind) BETWEEN 1 AND 100)
);
CREATE INDEX instance_attribute_term_id_idx ON instance_attribute (term_id);
COMMENT ON TABLE instance_attribute IS 'what annotations say of an instance beside its label';
COMMENT ON COLUMN instance_attribute.kind IS 'material, color, shape, state, ..., as the annotations call it';

CREATE TABLE run (
    run_id INTEGER NOT NULL GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    options JSONB NOT NULL,
    node_encoder_id INTEGER NOT NULL,
    relation_encoder_id INTEGER,
    words_encoder_id INTEGER,
    targets TEXT NOT NULL,
    predicates TEXT[],
    units JSONB NOT NULL,
    manifest TEXT NOT NULL,
    code_revision TEXT NOT NULL,
    step INTEGER DEFAULT 0 NOT NULL,
    epoch INTEGER DEFAULT 0 NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT run_pkey PRIMARY KEY (run_id),
    CONSTRAINT run_name_key UNIQUE (name),
    CONSTRAINT run_node_encoder_id_fkey FOREIGN KEY (node_encoder_id) REFERENCES encoder (encoder_id),
    CONSTRAINT run_relation_encoder_id_fkey FOREIGN KEY (relation_encoder_id) REFERENCES encoder (encoder_id),
    CONSTRAINT run_words_encoder_id_fkey FOREIGN KEY (words_encoder_id) REFERENCES encoder (encoder_id),
    CONSTRAINT run_name_check CHECK (char_length(name) BETWEEN 1 AND 200 AND strpos(name, ':') = 0),
    CONSTRAINT run_status_check CHECK (status IN ('running', 'stopped', 'finished', 'failed')),
    CONSTRAINT run_targets_check CHECK (targets IN ('pooled', 'tokens', 'captions', 'classes')),
    CONSTRAINT run_relation_encoder_check CHECK ((relation_encoder_id IS NULL) = (targets = 'classes')),
    CONSTRAINT run_predicates_check CHECK ((predicates IS NOT NULL) = (targets = 'classes'))
);
CREATE INDEX run_node_encoder_id_idx ON run (node_encoder_id);
CREATE INDEX run_relation_encoder_id_idx ON run (relation_encoder_id);
CREATE INDEX run_words_encoder_id_idx ON run (words_encoder_id);
COMMENT ON TABLE run IS 'a training run';
COMMENT ON COLUMN run.status IS 'running also where its process was killed: `open3dsg runs resume` goes on';
COMMENT ON COLUMN run.message IS 'why it stopped or failed';
COMMENT ON COLUMN run.node_encoder_id IS 'whose features of instances it learns to give';
COMMENT ON COLUMN run.relation_encoder_id IS 'whose features or captions of pairs; null: classes are learnt';
COMMENT ON COLUMN run.words_encoder_id IS
    'whose words its relations are compared with; null: they are in no space of words';
COMMENT ON COLUMN run.targets IS
    'what of pairs it learns: pooled features, tokens, embedded captions, or classes';
COMMENT ON COLUMN run.predicates IS 'the classes of relations, in the order of its scores';
COMMENT ON COLUMN run.units IS 'what it trains and validates on: {part: {dataset/scan: [subgraph, ...]}}';
COMMENT ON COLUMN run.manifest IS 'hash of the units and of the work their samples and features came from';
COMMENT ON COLUMN run.step IS 'optimizer steps that are done';
COMMENT ON COLUMN run.epoch IS 'whole epochs that are done';

CREATE TABLE run_metric (
    run_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    step INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    CONSTRAINT run_metric_pkey PRIMARY KEY (run_id, name, step),
    CONSTRAINT run_metric_run_id_fkey FOREIGN KEY (run_id) REFERENCES run (run_id) ON DELETE CASCADE
);
COMMENT ON TABLE run_metric IS 'losses and rates of a run, by optimizer step';
COMMENT ON COLUMN run_metric.name IS 'such as train/loss, val/loss, val/relation_loss, lr';

CREATE TABLE checkpoint (
    checkpoint_id BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    run_id INTEGER NOT NULL,
    step INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    position INTEGER NOT NULL,
    val_loss DOUBLE PRECISION,
    is_last BOOLEAN NOT NULL,
    size BIGINT NOT NULL,
    digest TEXT NOT NULL,
    uri TEXT,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT checkpoint_pkey PRIMARY KEY (checkpoint_id),
    CONSTRAINT checkpoint_run_id_fkey FOREIGN KEY (run_id) REFERENCES run (run_id) ON DELETE CASCADE
);
CREATE INDEX checkpoint_run_id_idx ON checkpoint (run_id);
CREATE UNIQUE INDEX checkpoint_one_last_idx ON checkpoint (run_id) WHERE is_last;
COMMENT ON TABLE checkpoint IS 'the state of a run at a step, as torch saves it';
COMMENT ON COLUMN checkpoint.position IS 'units of the epoch that were trained on, over all processes';
COMMENT ON COLUMN checkpoint.val_loss IS 'null: it was made between two validations';
COMMENT ON COLUMN checkpoint.is_last IS 'where `open3dsg runs resume` goes on';
COMMENT ON COLUMN checkpoint.digest IS 'SHA-256 of the file';
COMMENT ON COLUMN checkpoint.uri IS 'the file; null: its bytes are in checkpoint_part';

CREATE TABLE checkpoint_part (
    checkpoint_id BIGINT NOT NULL,
    part_no INTEGER NOT NULL,
    data BYTEA NOT NULL,
    CONSTRAINT checkpoint_part_pkey PRIMARY KEY (checkpoint_id, part_no),
    CONSTRAINT checkpoint_part_checkpoint_id_fkey
        FOREIGN KEY (checkpoint_id) REFERENCES checkpoint (checkpoint_id) ON DELETE CASCADE
);
COMMENT ON TABLE checkpoint_part IS 'a checkpoint in pieces, numbered from 0';

CREATE TABLE prediction (
    prediction_id INTEGER NOT NULL GENERATED ALWAYS AS IDENTITY,
    run_id INTEGER NOT NULL,
    label TEXT NOT NULL,
    source TEXT NOT NULL,
    weight_2d REAL NOT NULL,
    node_words_id INTEGER NOT NULL,
    relation_words_id INTEGER,
    checkpoint_step INTEGER,
    checkpoint_digest TEXT,
    options JSONB NOT NULL,
    code_revision TEXT NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT prediction_pkey PRIMARY KEY (prediction_id),
    CONSTRAINT prediction_run_id_label_key UNIQUE (run_id, label),
    CONSTRAINT prediction_run_id_fkey FOREIGN KEY (run_id) REFERENCES run (run_id) ON DELETE CASCADE,
    CONSTRAINT prediction_node_words_id_fkey FOREIGN KEY (node_words_id) REFERENCES encoder (encoder_id),
    CONSTRAINT prediction_relation_words_id_fkey FOREIGN KEY (relation_words_id) REFERENCES encoder (encoder_id),
    CONSTRAINT prediction_source_check CHECK (source IN ('student', 'teacher', 'fused')),
    CONSTRAINT prediction_weight_2d_check CHECK (weight_2d BETWEEN 0 AND 1),
    CONSTRAINT prediction_checkpoint_check CHECK ((source = 'teacher') = (checkpoint_digest IS NULL))
);
CREATE INDEX prediction_node_words_id_idx ON prediction (node_words_id);
CREATE INDEX prediction_relation_words_id_idx ON prediction (relation_words_id);
COMMENT ON TABLE prediction IS 'what a run says of scans, made in one way; called RUN:LABEL';
COMMENT ON COLUMN prediction.source IS 'student: from points alone; teacher: the 2D features alone; fused: both';
COMMENT ON COLUMN prediction.weight_2d IS 'share of the 2D features where there are any';
COMMENT ON COLUMN prediction.node_words_id IS 'whose words the nodes are compared with';
COMMENT ON COLUMN prediction.relation_words_id IS
    'whose words the edges are compared with; null: they have scores of classes, or nothing to compare';

CREATE TABLE node_prediction (
    scan_id BIGINT NOT NULL,
    prediction_id INTEGER NOT NULL,
    instance_no INTEGER NOT NULL,
    embedding HALFVEC NOT NULL,
    origin TEXT NOT NULL,
    CONSTRAINT node_prediction_pkey PRIMARY KEY (scan_id, prediction_id, instance_no),
    CONSTRAINT node_prediction_scan_id_instance_no_fkey
        FOREIGN KEY (scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT node_prediction_prediction_id_fkey
        FOREIGN KEY (prediction_id) REFERENCES prediction (prediction_id) ON DELETE CASCADE,
    CONSTRAINT node_prediction_origin_check CHECK (origin IN ('student', 'teacher', 'fused'))
);
CREATE INDEX node_prediction_prediction_id_idx ON node_prediction (prediction_id);
CREATE INDEX node_prediction_scan_id_instance_no_idx ON node_prediction (scan_id, instance_no);
COMMENT ON TABLE node_prediction IS 'the predicted embedding of an instance';
COMMENT ON COLUMN node_prediction.embedding IS 'unit length, in the space of prediction.node_words_id';
COMMENT ON COLUMN node_prediction.origin IS 'where it came from: of fused ones student where there was no 2D feature';

CREATE TABLE edge_prediction (
    scan_id BIGINT NOT NULL,
    prediction_id INTEGER NOT NULL,
    subject_no INTEGER NOT NULL,
    object_no INTEGER NOT NULL,
    embedding HALFVEC,
    scores REAL[],
    caption TEXT,
    phrase_id INTEGER,
    origin TEXT NOT NULL,
    CONSTRAINT edge_prediction_pkey PRIMARY KEY (scan_id, prediction_id, subject_no, object_no),
    CONSTRAINT edge_prediction_scan_id_subject_no_fkey
        FOREIGN KEY (scan_id, subject_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT edge_prediction_scan_id_object_no_fkey
        FOREIGN KEY (scan_id, object_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT edge_prediction_prediction_id_fkey
        FOREIGN KEY (prediction_id) REFERENCES prediction (prediction_id) ON DELETE CASCADE,
    CONSTRAINT edge_prediction_phrase_id_fkey FOREIGN KEY (phrase_id) REFERENCES term (term_id),
    CONSTRAINT edge_prediction_not_self_check CHECK (subject_no <> object_no),
    CONSTRAINT edge_prediction_origin_check CHECK (origin IN ('student', 'teacher', 'fused'))
);
CREATE INDEX edge_prediction_prediction_id_idx ON edge_prediction (prediction_id);
CREATE INDEX edge_prediction_phrase_id_idx ON edge_prediction (phrase_id);
CREATE INDEX edge_prediction_scan_id_subject_no_idx ON edge_prediction (scan_id, subject_no);
CREATE INDEX edge_prediction_scan_id_object_no_idx ON edge_prediction (scan_id, object_no);
COMMENT ON TABLE edge_prediction IS 'what is predicted of a pair in one direction';
COMMENT ON COLUMN edge_prediction.embedding IS
    'unit length, in the space of prediction.relation_words_id; null: nothing was said, or classes were learnt';
COMMENT ON COLUMN edge_prediction.scores IS 'of the classes run.predicates, 0 to 1';
COMMENT ON COLUMN edge_prediction.caption IS 'the whole of what was said, where an encoder speaks';
COMMENT ON COLUMN edge_prediction.phrase_id IS 'the words between the two names, a term';

CREATE TABLE evaluation (
    evaluation_id INTEGER NOT NULL GENERATED ALWAYS AS IDENTITY,
    prediction_id INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    options JSONB NOT NULL,
    options_hash TEXT NOT NULL,
    vocabularies JSONB NOT NULL,
    metrics JSONB NOT NULL,
    scans INTEGER NOT NULL,
    code_revision TEXT NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT evaluation_pkey PRIMARY KEY (evaluation_id),
    CONSTRAINT evaluation_prediction_id_protocol_options_hash_key UNIQUE (prediction_id, protocol, options_hash),
    CONSTRAINT evaluation_prediction_id_fkey
        FOREIGN KEY (prediction_id) REFERENCES prediction (prediction_id) ON DELETE CASCADE,
    CONSTRAINT evaluation_protocol_check CHECK (protocol IN ('published', 'strict'))
);
COMMENT ON TABLE evaluation IS 'the figures of a prediction under one protocol';
COMMENT ON COLUMN evaluation.vocabularies IS '{classes: {name, hash}, predicates: {name, hash}, ...}';

CREATE TABLE evaluation_rank (
    scan_id BIGINT NOT NULL,
    evaluation_id INTEGER NOT NULL,
    item_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subgraph_no INTEGER,
    subject_no INTEGER NOT NULL,
    object_no INTEGER,
    subject_label_id INTEGER NOT NULL,
    term_id INTEGER NOT NULL,
    object_label_id INTEGER,
    rank INTEGER,
    predicted_id INTEGER,
    CONSTRAINT evaluation_rank_pkey PRIMARY KEY (scan_id, evaluation_id, item_no),
    CONSTRAINT evaluation_rank_scan_id_fkey FOREIGN KEY (scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE,
    CONSTRAINT evaluation_rank_evaluation_id_fkey
        FOREIGN KEY (evaluation_id) REFERENCES evaluation (evaluation_id) ON DELETE CASCADE,
    CONSTRAINT evaluation_rank_subject_label_id_fkey FOREIGN KEY (subject_label_id) REFERENCES term (term_id),
    CONSTRAINT evaluation_rank_term_id_fkey FOREIGN KEY (term_id) REFERENCES term (term_id),
    CONSTRAINT evaluation_rank_object_label_id_fkey FOREIGN KEY (object_label_id) REFERENCES term (term_id),
    CONSTRAINT evaluation_rank_predicted_id_fkey FOREIGN KEY (predicted_id) REFERENCES term (term_id),
    CONSTRAINT evaluation_rank_kind_check CHECK (kind IN ('object', 'predicate', 'relationship', 'attribute')),
    CONSTRAINT evaluation_rank_rank_check CHECK (rank > 0)
);
CREATE INDEX evaluation_rank_evaluation_id_idx ON evaluation_rank (evaluation_id);
CREATE INDEX evaluation_rank_subject_label_id_idx ON evaluation_rank (subject_label_id);
CREATE INDEX evaluation_rank_term_id_idx ON evaluation_rank (term_id);
CREATE INDEX evaluation_rank_object_label_id_idx ON evaluation_rank (object_label_id);
CREATE INDEX evaluation_rank_predicted_id_idx ON evaluation_rank (predicted_id);
COMMENT ON TABLE evaluation_rank IS 'an annotation that was judged: the rows behind the figures of an evaluation';
COMMENT ON COLUMN evaluation_rank.kind IS
    'object: its label; predicate: of a pair; relationship: the whole triplet; attribute: a material, a colour';
COMMENT ON COLUMN evaluation_rank.subgraph_no IS 'null: it was judged once for the whole scan';
COMMENT ON COLUMN evaluation_rank.term_id IS 'what is true: the label, the predicate, the attribute';
COMMENT ON COLUMN evaluation_rank.rank IS 'at which place it was predicted, from 1; null: beyond the places looked at';
COMMENT ON COLUMN evaluation_rank.predicted_id IS 'what was predicted first in its place';
