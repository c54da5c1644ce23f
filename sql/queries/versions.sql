-- name: feature_diff
-- How far two encoders are apart over the features that both have; null: there are none.
SELECT count(distance), count(*) FILTER (WHERE NOT in_b), count(*) FILTER (WHERE NOT in_a),
       avg(distance), max(distance),
       percentile_cont(%(quantiles)s::float8[]) WITHIN GROUP (ORDER BY distance)
FROM feature_diff_v1(%(a)s, %(b)s, %(pairs)s)
WHERE %(dataset)s::text IS NULL OR dataset = %(dataset)s

-- name: feature_diff_most
SELECT dataset, scan, instance, other, label, other_label, distance
FROM feature_diff_v1(%(a)s, %(b)s, %(pairs)s)
WHERE distance IS NOT NULL AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
ORDER BY distance DESC, dataset, scan, instance, other
LIMIT %(most)s

-- name: encoder_content
-- The scans that an encoder has features of, or that the ledger says so of.
SELECT d.name || '/' || s.name, nodes, pairs, captions
FROM (SELECT scan_id, sum(nodes)::bigint AS nodes, sum(pairs)::bigint AS pairs, sum(captions)::bigint AS captions
      FROM (SELECT scan_id, count(*) AS nodes, 0 AS pairs, 0 AS captions
            FROM node_feature WHERE encoder_id = %(encoder_id)s GROUP BY scan_id
            UNION ALL
            SELECT scan_id, 0, count(*), 0
            FROM pair_feature WHERE encoder_id = %(encoder_id)s GROUP BY scan_id
            UNION ALL
            SELECT scan_id, 0, 0, count(*)
            FROM relation_caption WHERE encoder_id = %(encoder_id)s GROUP BY scan_id
            UNION ALL
            SELECT DISTINCT scan_id, 0, 0, 0
            FROM ledger WHERE variant = %(variant)s AND step = ANY (%(steps)s)) AS parts
      GROUP BY scan_id) AS held
JOIN scan s USING (scan_id)
JOIN dataset d USING (dataset_id)
ORDER BY 1

-- name: encoder_drop
-- What an encoder has of a scan, as far as it is asked for; tokens go with their pairs.
WITH nodes AS (DELETE FROM node_feature
               WHERE %(nodes)s AND scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s RETURNING 1),
     pairs AS (DELETE FROM pair_feature
               WHERE %(pairs)s AND scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s RETURNING 1),
     captions AS (DELETE FROM relation_caption
                  WHERE %(captions)s AND scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s RETURNING 1)
SELECT (SELECT count(*) FROM nodes), (SELECT count(*) FROM pairs), (SELECT count(*) FROM captions)

-- name: encoder_drop_indexes
SELECT drop_unused_indexes_v1(%(encoder)s)

-- name: encoder_hold
-- Waits for those who write features of it, so that the next statement sees them.
SELECT views FROM encoder WHERE encoder_id = %(encoder_id)s FOR UPDATE

-- name: encoder_delete_unused
-- An encoder that features, runs and the ledger know nothing of, with the words that it embedded.
DELETE FROM encoder
WHERE encoder_id = %(encoder_id)s
  AND NOT EXISTS (SELECT FROM node_feature f WHERE f.encoder_id = %(encoder_id)s)
  AND NOT EXISTS (SELECT FROM pair_feature f WHERE f.encoder_id = %(encoder_id)s)
  AND NOT EXISTS (SELECT FROM relation_caption c WHERE c.encoder_id = %(encoder_id)s)
  AND NOT EXISTS (SELECT FROM run r
                  WHERE %(encoder_id)s IN (r.node_encoder_id, r.relation_encoder_id, r.words_encoder_id))
  AND NOT EXISTS (SELECT FROM prediction p WHERE %(encoder_id)s IN (p.node_words_id, p.relation_words_id))
  AND NOT EXISTS (SELECT FROM ledger WHERE variant = %(variant)s AND step = ANY (%(steps)s))

-- name: encoder_revisions
-- All revisions of a name, the active one first, with their nodes and pairs.
SELECT e.name || '@' || e.revision, e.is_active,
       (SELECT count(*) FROM node_feature f WHERE f.encoder_id = e.encoder_id),
       (SELECT count(*) FROM pair_feature f WHERE f.encoder_id = e.encoder_id)
FROM encoder e
WHERE e.name = %(name)s
ORDER BY e.is_active DESC, e.revision

-- name: encoder_words
-- Whether its features came from elsewhere, and which revision's words they are then compared with.
SELECT options ? 'imported', options ->> 'words' FROM encoder WHERE encoder_id = %(encoder_id)s

-- name: encoder_settle
-- Another process may have been first.
UPDATE encoder
SET options = options || jsonb_build_object('words', %(revision)s::text)
WHERE encoder_id = %(encoder_id)s AND options ->> 'words' IS NULL
