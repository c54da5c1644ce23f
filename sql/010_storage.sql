-- Floats and colours do not compress: store them outside the row as they are, which makes reading faster.
-- Instance numbers are long runs of one value: those stay compressed.
ALTER TABLE point_block
    ALTER COLUMN xyz_m SET STORAGE EXTERNAL,
    ALTER COLUMN rgb SET STORAGE EXTERNAL,
    ALTER COLUMN normals SET STORAGE EXTERNAL;

-- Sampled places are in no order that would compress.
ALTER TABLE instance_sample ALTER COLUMN point_ids SET STORAGE EXTERNAL;
ALTER TABLE pair ALTER COLUMN point_ids SET STORAGE EXTERNAL;

-- Tokens are packed before they come here.
ALTER TABLE pair_tokens ALTER COLUMN tokens SET STORAGE EXTERNAL;

-- Weights do not compress.
ALTER TABLE checkpoint_part ALTER COLUMN data SET STORAGE EXTERNAL;
