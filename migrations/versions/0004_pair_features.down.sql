-- The older package knows encoders of instances only.
DELETE FROM ledger WHERE step IN ('features.pairs', 'features.captions');
DROP TABLE relation_caption;
DROP TABLE pair_tokens;
DROP TABLE pair_feature;
DELETE FROM encoder WHERE views NOT IN ('crops', 'pixels');
ALTER TABLE encoder
    DROP CONSTRAINT encoder_chosen_check,
    DROP CONSTRAINT encoder_tokens_check,
    DROP COLUMN is_chosen,
    DROP COLUMN options,
    DROP COLUMN tokens;
COMMENT ON COLUMN encoder.views IS 'what it is shown: crops or pixels';
