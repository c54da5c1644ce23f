-- name: encoder_upsert
-- The first revision of a name is the one that the bare name means; a later one has to earn it.
INSERT INTO encoder (name, revision, dimension, views, tokens, options, is_active)
VALUES (%(name)s, %(revision)s, %(dimension)s, %(views)s, %(tokens)s, %(options)s,
        NOT EXISTS (SELECT FROM encoder WHERE name = %(name)s AND is_active))
ON CONFLICT (name, revision) DO NOTHING

-- name: encoder_is_as_full
-- Whether a revision has at least as many nodes and pairs as the one that the bare name means; captions of rules.
SELECT (SELECT count(*) FROM node_feature WHERE encoder_id = %(encoder_id)s)
       >= (SELECT count(*) FROM node_feature f JOIN encoder e USING (encoder_id) WHERE e.name = %(name)s AND e.is_active)
       AND (SELECT count(*) FROM pair_feature WHERE encoder_id = %(encoder_id)s)
       >= (SELECT count(*) FROM pair_feature f JOIN encoder e USING (encoder_id) WHERE e.name = %(name)s AND e.is_active)
       AND (SELECT count(*) FROM relation_caption c JOIN encoder e USING (encoder_id)
            WHERE encoder_id = %(encoder_id)s AND e.views = 'boxes')
       >= (SELECT count(*) FROM relation_caption c JOIN encoder e USING (encoder_id)
           WHERE e.name = %(name)s AND e.is_active AND e.views = 'boxes')

-- name: encoder_hold_name
-- All revisions of a name, until the end of the transaction: what it means is changed by one at a time.
SELECT revision, is_active, is_chosen FROM encoder WHERE name = %(name)s ORDER BY encoder_id FOR NO KEY UPDATE

-- name: encoder_deactivate
UPDATE encoder SET is_active = false, is_chosen = false WHERE name = %(name)s AND is_active

-- name: encoder_activate
UPDATE encoder SET is_active = true, is_chosen = %(is_chosen)s WHERE encoder_id = %(encoder_id)s

-- name: encoder_find
SELECT encoder_id, name, revision, dimension, is_active
FROM encoder
WHERE (name = %(text)s AND is_active) OR name || '@' || revision = %(text)s

-- name: encoders_with_features
SELECT e.name
FROM encoder e
WHERE e.is_active AND EXISTS (SELECT FROM node_feature f WHERE f.encoder_id = e.encoder_id)
ORDER BY e.name

-- name: encoders_known
SELECT name || '@' || revision FROM encoder ORDER BY name, revision

-- name: feature_clear
-- All features of a scan by an encoder, or those of some instances.
DELETE FROM node_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s
  AND (%(numbers)s::integer[] IS NULL OR instance_no = ANY (%(numbers)s))

-- name: lock_features
-- Until the end of the transaction: chunks that are worked on side by side are written one after the other.
SELECT pg_advisory_xact_lock(hashtextextended(format('open3dsg:features %%s %%s', %(scan_id)s::bigint,
                                                     %(encoder_id)s::integer), 0))

-- name: feature_looks
-- Of some instances, how many looks are behind each embedding.
SELECT instance_no, cardinality(frame_nos)
FROM node_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s AND instance_no = ANY (%(numbers)s::integer[])

-- name: is_observed
-- No row: never; false: but for instances that changed since.
SELECT NOT stale FROM ledger WHERE scan_id = %(scan_id)s AND step = 'observe'
