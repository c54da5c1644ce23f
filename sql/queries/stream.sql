-- name: training_units
-- The units that a trainer does not pass over, for which v_subgraph has no reason, and whether their scan has a
-- feature by an encoder. The view counts all there is; this stops at what decides: what is built has the pairs
-- it should have, unless they may be too far apart, and what a frame shows has points.
WITH scans AS MATERIALIZED (
    SELECT s.scan_id, d.name AS dataset, s.name AS scan,
           EXISTS (SELECT FROM node_feature f
                   WHERE f.scan_id = s.scan_id AND f.encoder_id = %(encoder_id)s) AS has_features
    FROM dataset d
    JOIN scan s USING (dataset_id)
    JOIN ledger l USING (scan_id)
    WHERE (%(dataset)s::text IS NULL OR d.name = %(dataset)s)
      AND (%(split)s::text IS NULL OR s.split = %(split)s)
    GROUP BY s.scan_id, d.name
    HAVING bool_or(NOT l.stale) FILTER (WHERE l.step = 'observe')
       AND bool_and(NOT l.stale) FILTER (
           WHERE l.step = 'graph' AND l.variant = CASE WHEN %(full)s THEN 'full' ELSE 'subgraphs' END)
)
SELECT scans.dataset || '/' || scans.scan, g.subgraph_no, scans.has_features
FROM scans
JOIN subgraph g ON g.scan_id = scans.scan_id AND (g.method = 'full') = %(full)s
WHERE (SELECT count(*)
       FROM (SELECT
             FROM subgraph_member m
             WHERE (m.scan_id, m.subgraph_no) = (g.scan_id, g.subgraph_no)
               AND EXISTS (SELECT FROM observation o
                           WHERE (o.scan_id, o.instance_no) = (m.scan_id, m.instance_no))
             LIMIT 4) AS visible) = 4
  AND (g.max_distance_m IS NULL
       OR EXISTS (SELECT
                  FROM subgraph_member one
                  JOIN pair p ON (p.scan_id, p.instance_a) = (one.scan_id, one.instance_no)
                  JOIN subgraph_member other
                      ON (other.scan_id, other.subgraph_no, other.instance_no)
                         = (one.scan_id, one.subgraph_no, p.instance_b)
                  WHERE (one.scan_id, one.subgraph_no) = (g.scan_id, g.subgraph_no)
                    AND p.min_distance_m <= g.max_distance_m))
ORDER BY scans.dataset COLLATE "C", scans.scan COLLATE "C", g.subgraph_no

-- name: training_scan_units
-- Of one scan the units that can be read; those that show too little to train on only with their unseen objects.
SELECT subgraph
FROM v_subgraph
WHERE scan_id = %(scan_id)s
  AND (method = 'full') = %(full)s
  AND CASE WHEN %(unseen)s THEN reason IS NULL OR reason = 'too few visible'
           ELSE reason IS NULL AND visible_objects IS NOT NULL END
ORDER BY subgraph

-- name: training_stage
-- How far the scans of a split are: how many there are, with units, with samples, observed.
SELECT count(*),
       count(*) FILTER (WHERE EXISTS (SELECT FROM subgraph g
                                      WHERE g.scan_id = s.scan_id AND (g.method = 'full') = %(full)s)),
       count(*) FILTER (WHERE EXISTS (SELECT FROM ledger l
                                      WHERE l.scan_id = s.scan_id
                                        AND l.step = 'graph'
                                        AND (l.variant = 'full') = %(full)s
                                        AND NOT l.stale)),
       count(*) FILTER (WHERE EXISTS (SELECT FROM ledger l
                                      WHERE l.scan_id = s.scan_id AND l.step = 'observe' AND NOT l.stale))
FROM dataset d
JOIN scan s USING (dataset_id)
WHERE d.name = %(dataset)s AND (%(split)s::text IS NULL OR s.split = %(split)s)

-- name: training_splits
SELECT DISTINCT s.split
FROM dataset d
JOIN scan s USING (dataset_id)
WHERE d.name = %(dataset)s AND s.split IS NOT NULL
ORDER BY s.split

-- name: training_missing_unit
-- The first of some units that is no longer there.
SELECT asked.scan, asked.number
FROM unnest(%(scans)s::text[], %(numbers)s::integer[]) WITH ORDINALITY AS asked (scan, number, place)
WHERE NOT EXISTS (SELECT
                  FROM dataset d
                  JOIN scan s USING (dataset_id)
                  JOIN subgraph g USING (scan_id)
                  WHERE d.name = split_part(asked.scan, '/', 1)
                    AND s.name = split_part(asked.scan, '/', 2)
                    AND g.subgraph_no = asked.number)
ORDER BY asked.place
LIMIT 1

-- name: training_work
-- The work that units of some scans came from: lines of `steps`, of each the variant at its place in `variants`.
SELECT d.name || '/' || s.name AS scan, l.step, l.variant, l.chunk, l.step_version, l.options_hash, l.stale,
       (extract(epoch FROM l.finished_at) * 1000000)::bigint
FROM unnest(%(scans)s::text[]) AS asked (scan)
JOIN dataset d ON d.name = split_part(asked.scan, '/', 1)
JOIN scan s ON s.dataset_id = d.dataset_id AND s.name = split_part(asked.scan, '/', 2)
JOIN ledger l USING (scan_id)
JOIN unnest(%(steps)s::text[], %(variants)s::text[]) AS pinned (step, variant) USING (step, variant)
ORDER BY d.name || '/' || s.name COLLATE "C", l.step, l.chunk

-- name: training_encoder
-- What an encoder is, and which of its rows scans of a dataset have. `coarse`: of all of its tokens.
WITH chosen AS MATERIALIZED (
    SELECT s.scan_id FROM dataset d JOIN scan s USING (dataset_id) WHERE d.name = %(dataset)s
)
SELECT e.views,
       coalesce(e.tokens, 0) AS tokens,
       EXISTS (SELECT FROM chosen JOIN node_feature USING (scan_id) WHERE encoder_id = e.encoder_id) AS nodes,
       EXISTS (SELECT FROM chosen JOIN pair_feature USING (scan_id) WHERE encoder_id = e.encoder_id) AS pairs,
       EXISTS (SELECT FROM chosen JOIN pair_tokens USING (scan_id) WHERE encoder_id = e.encoder_id) AS token_rows,
       NOT EXISTS (SELECT FROM chosen JOIN pair_tokens USING (scan_id)
                   WHERE encoder_id = e.encoder_id AND layout <> 'grid17') AS coarse,
       EXISTS (SELECT FROM chosen JOIN relation_caption USING (scan_id)
               WHERE encoder_id = e.encoder_id AND phrase_id IS NOT NULL) AS captions
FROM encoder e
WHERE e.encoder_id = %(encoder_id)s

-- name: training_pair_encoders
-- The encoders that a dataset has anything of pairs by, whose name means the revision.
SELECT e.name
FROM encoder e
WHERE e.is_active
  AND EXISTS (SELECT FROM dataset d JOIN scan s USING (dataset_id)
              WHERE d.name = %(dataset)s
                AND (EXISTS (SELECT FROM pair_feature f
                             WHERE f.scan_id = s.scan_id AND f.encoder_id = e.encoder_id)
                     OR EXISTS (SELECT FROM relation_caption c
                                WHERE c.scan_id = s.scan_id AND c.encoder_id = e.encoder_id)))
ORDER BY e.name

-- name: training_sizes
-- The largest samples that were asked for in some scans, of an instance and of a pair.
SELECT max((l.options #>> '{shared,instance_points}')::integer), max((l.options #>> '{shared,pair_points}')::integer)
FROM unnest(%(scans)s::text[]) AS asked (scan)
JOIN dataset d ON d.name = split_part(asked.scan, '/', 1)
JOIN scan s ON s.dataset_id = d.dataset_id AND s.name = split_part(asked.scan, '/', 2)
JOIN ledger l USING (scan_id)
WHERE l.step = 'graph'

-- name: unit_node_features
SELECT instance_no, embedding
FROM node_feature
WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s AND instance_no = ANY (%(numbers)s::integer[])

-- name: scan_has_node_features
SELECT EXISTS (SELECT FROM node_feature WHERE scan_id = %(scan_id)s AND encoder_id = %(encoder_id)s)

-- name: unit_pair_features
-- Of some pairs those that have a feature, by their place among them.
SELECT asked.place::integer - 1, CASE WHEN %(with_embedding)s THEN f.embedding END
FROM unnest(%(a)s::integer[], %(b)s::integer[]) WITH ORDINALITY AS asked (instance_a, instance_b, place)
JOIN pair_feature f USING (instance_a, instance_b)
WHERE f.scan_id = %(scan_id)s AND f.encoder_id = %(encoder_id)s
ORDER BY asked.place

-- name: unit_captions
-- What is said of instances of a unit, and the embedding of the words.
SELECT c.subject_no, c.object_no, c.phrase_id, te.embedding
FROM relation_caption c
JOIN term_embedding te ON te.encoder_id = %(words_id)s AND te.term_id = c.phrase_id
WHERE c.scan_id = %(scan_id)s
  AND c.encoder_id = %(encoder_id)s
  AND c.subject_no = ANY (%(numbers)s::integer[])
  AND c.object_no = ANY (%(numbers)s::integer[])
ORDER BY c.phrase_id
