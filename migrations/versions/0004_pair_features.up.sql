-- What encoders make of pairs: one vector for search, a grid of tokens, and words.

ALTER TABLE encoder
    ADD COLUMN tokens INTEGER,
    ADD COLUMN options JSONB DEFAULT '{}' NOT NULL,
    ADD COLUMN is_chosen BOOLEAN DEFAULT false NOT NULL,
    ADD CONSTRAINT encoder_tokens_check CHECK (tokens > 0),
    ADD CONSTRAINT encoder_chosen_check CHECK (is_active OR NOT is_chosen);
COMMENT ON COLUMN encoder.views IS 'what it is shown: crops, pixels, tokens (it makes them of crops), boxes or text';
COMMENT ON COLUMN encoder.tokens IS 'tokens a picture; null: it gives one vector';
COMMENT ON COLUMN encoder.options IS 'what it was made with, for people to read; the revision is the hash of it';
COMMENT ON COLUMN encoder.is_chosen IS 'the name was given to it by `features activate`: dumps leave it so';

CREATE TABLE pair_feature (
    scan_id BIGINT NOT NULL,
    encoder_id INTEGER NOT NULL,
    instance_a INTEGER NOT NULL,
    instance_b INTEGER NOT NULL,
    embedding HALFVEC NOT NULL,
    frame_nos INTEGER[] NOT NULL,
    boxes SMALLINT[] NOT NULL,
    weights REAL[] NOT NULL,
    CONSTRAINT pair_feature_pkey PRIMARY KEY (scan_id, encoder_id, instance_a, instance_b),
    CONSTRAINT pair_feature_scan_id_instance_a_fkey
        FOREIGN KEY (scan_id, instance_a) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT pair_feature_scan_id_instance_b_fkey
        FOREIGN KEY (scan_id, instance_b) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT pair_feature_encoder_id_fkey
        FOREIGN KEY (encoder_id) REFERENCES encoder (encoder_id) ON DELETE CASCADE,
    CONSTRAINT pair_feature_order_check CHECK (instance_a < instance_b)
);
CREATE INDEX pair_feature_encoder_id_idx ON pair_feature (encoder_id);
CREATE INDEX pair_feature_scan_id_instance_a_idx ON pair_feature (scan_id, instance_a);
CREATE INDEX pair_feature_scan_id_instance_b_idx ON pair_feature (scan_id, instance_b);
COMMENT ON TABLE pair_feature IS 'what an encoder sees where two instances are seen together; once, whatever the direction';
COMMENT ON COLUMN pair_feature.embedding IS 'unit length, of tokens their mean; absent row: no feature';
COMMENT ON COLUMN pair_feature.frame_nos IS 'evidence: the frame of each view';
COMMENT ON COLUMN pair_feature.boxes IS 'x0, y0, x1, y1 a view, on the photo';
COMMENT ON COLUMN pair_feature.weights IS 'weight of each view in the mean';

CREATE TABLE pair_tokens (
    scan_id BIGINT NOT NULL,
    encoder_id INTEGER NOT NULL,
    instance_a INTEGER NOT NULL,
    instance_b INTEGER NOT NULL,
    layout TEXT NOT NULL,
    dtype TEXT NOT NULL,
    packing TEXT NOT NULL,
    tokens BYTEA NOT NULL,
    scales BYTEA,
    CONSTRAINT pair_tokens_pkey PRIMARY KEY (scan_id, encoder_id, instance_a, instance_b),
    CONSTRAINT pair_tokens_scan_id_encoder_id_instance_a_instance_b_fkey
        FOREIGN KEY (scan_id, encoder_id, instance_a, instance_b)
        REFERENCES pair_feature (scan_id, encoder_id, instance_a, instance_b) ON DELETE CASCADE,
    CONSTRAINT pair_tokens_layout_check CHECK (layout IN ('full', 'grid17')),
    CONSTRAINT pair_tokens_dtype_check CHECK (dtype IN ('fp16', 'int8', 'fp8')),
    CONSTRAINT pair_tokens_scales_check CHECK ((scales IS NULL) = (dtype = 'fp16'))
);
COMMENT ON TABLE pair_tokens IS 'the mean tokens of the views of a pair, packed; see docs/data-model.md';
COMMENT ON COLUMN pair_tokens.layout IS
    'full: one token for the picture, then a square grid row by row; grid17: the grid averaged to 4 x 4';
COMMENT ON COLUMN pair_tokens.dtype IS 'fp16, or int8 and fp8 (e4m3) with a scale a token';
COMMENT ON COLUMN pair_tokens.packing IS 'how the bytes lie in tokens';
COMMENT ON COLUMN pair_tokens.scales IS 'float32 little-endian a token; null where the tokens need none';

CREATE TABLE relation_caption (
    scan_id BIGINT NOT NULL,
    encoder_id INTEGER NOT NULL,
    subject_no INTEGER NOT NULL,
    object_no INTEGER NOT NULL,
    caption TEXT NOT NULL,
    phrase_id INTEGER,
    CONSTRAINT relation_caption_pkey PRIMARY KEY (scan_id, encoder_id, subject_no, object_no),
    CONSTRAINT relation_caption_scan_id_subject_no_fkey
        FOREIGN KEY (scan_id, subject_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT relation_caption_scan_id_object_no_fkey
        FOREIGN KEY (scan_id, object_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT relation_caption_encoder_id_fkey
        FOREIGN KEY (encoder_id) REFERENCES encoder (encoder_id) ON DELETE CASCADE,
    CONSTRAINT relation_caption_phrase_id_fkey FOREIGN KEY (phrase_id) REFERENCES term (term_id),
    CONSTRAINT relation_caption_not_self_check CHECK (subject_no <> object_no)
);
CREATE INDEX relation_caption_encoder_id_idx ON relation_caption (encoder_id);
CREATE INDEX relation_caption_phrase_id_idx ON relation_caption (phrase_id);
CREATE INDEX relation_caption_scan_id_subject_no_idx ON relation_caption (scan_id, subject_no);
CREATE INDEX relation_caption_scan_id_object_no_idx ON relation_caption (scan_id, object_no);
COMMENT ON TABLE relation_caption IS 'what an encoder says of a pair in one direction';
COMMENT ON COLUMN relation_caption.caption IS 'the whole of what it said';
COMMENT ON COLUMN relation_caption.phrase_id IS
    'the words between the two names, a term whose embedding stands in term_embedding; null: none were found';
