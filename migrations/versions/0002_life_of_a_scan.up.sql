-- What a scan goes through after it was ingested: read again, relabelled, moved, deleted.

ALTER TABLE dataset ADD COLUMN arguments JSONB;
COMMENT ON COLUMN dataset.arguments IS 'how its reader was last opened, beside the root; null: not known';

ALTER TABLE ledger ADD COLUMN stale BOOLEAN DEFAULT false NOT NULL;
COMMENT ON COLUMN ledger.stale IS 'rows of changed instances were dropped since: the step fills in what is missing';

ALTER TABLE vocabulary
    ADD COLUMN dataset_id INTEGER,
    ADD CONSTRAINT vocabulary_dataset_id_fkey
        FOREIGN KEY (dataset_id) REFERENCES dataset (dataset_id) ON DELETE CASCADE;
COMMENT ON COLUMN vocabulary.dataset_id IS 'the dataset it came with; null: someone''s own';

-- Until now the only lists were those that came with a dataset, and the asked words.
UPDATE vocabulary v
SET dataset_id = d.dataset_id
FROM dataset d
WHERE v.name IN (d.name || '-classes', d.name || '-predicates');
