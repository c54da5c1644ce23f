-- Runs and their checkpoints, by name.

CREATE OR REPLACE FUNCTION run_lock_key_v1(of_run text)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('open3dsg:run:' || of_run, 0);
COMMENT ON FUNCTION run_lock_key_v1 IS 'the advisory lock that a session holds while it trains a run';

CREATE OR REPLACE VIEW v_run AS
SELECT r.name AS run,
       CASE WHEN r.status = 'running'
                 AND NOT EXISTS (SELECT
                                 FROM pg_locks l
                                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                                   AND (l.classid::bigint << 32 | l.objid::bigint) = run_lock_key_v1(r.name))
            THEN 'interrupted'
            ELSE r.status
       END AS status,
       (SELECT string_agg(DISTINCT split_part(scan, '/', 1), ' ')
        FROM jsonb_each(r.units) AS part (name, scans), jsonb_object_keys(scans) AS scan) AS dataset,
       nodes.name || '@' || nodes.revision AS encoder,
       relations.name || '@' || relations.revision AS relation_encoder,
       words.name || '@' || words.revision AS words_encoder,
       r.targets,
       r.step,
       r.epoch,
       (SELECT min(c.val_loss) FROM checkpoint c WHERE c.run_id = r.run_id) AS best_val_loss,
       (SELECT count(*) FROM checkpoint c WHERE c.run_id = r.run_id) AS checkpoints,
       (SELECT count(*) FROM prediction p WHERE p.run_id = r.run_id) AS predictions,
       r.message,
       r.code_revision,
       r.started_at,
       r.updated_at,
       r.run_id
FROM run r
JOIN encoder nodes ON nodes.encoder_id = r.node_encoder_id
LEFT JOIN encoder relations ON relations.encoder_id = r.relation_encoder_id
LEFT JOIN encoder words ON words.encoder_id = r.words_encoder_id;
COMMENT ON VIEW v_run IS 'every training run, by name';
COMMENT ON COLUMN v_run.status IS 'as in run, but interrupted where it says running and nobody trains it';
COMMENT ON COLUMN v_run.dataset IS 'the datasets of its units, with spaces between';
COMMENT ON COLUMN v_run.best_val_loss IS 'of the checkpoints that are kept';

CREATE OR REPLACE VIEW v_checkpoint AS
SELECT r.name AS run,
       c.step,
       c.epoch,
       c.position,
       c.val_loss,
       c.val_loss IS NOT NULL AND c.checkpoint_id = first_value(c.checkpoint_id) OVER by_loss
           AS is_best,
       c.is_last,
       c.size,
       c.digest,
       c.uri,
       c.made_at,
       c.checkpoint_id,
       c.run_id
FROM checkpoint c
JOIN run r USING (run_id)
WINDOW by_loss AS (PARTITION BY c.run_id ORDER BY c.val_loss NULLS LAST, c.step);
COMMENT ON VIEW v_checkpoint IS 'every checkpoint that is kept; uri is null where its bytes are in the database';
COMMENT ON COLUMN v_checkpoint.is_best IS 'the smallest validation loss of its run, of equal ones the first';
