-- name: database_identity
-- A copy of a server's files has the same system identifier, but was not started at the same microsecond.
SELECT concat_ws('/', pg_postmaster_start_time(), current_setting('port'), current_database())

-- name: transfer_dataset
SELECT layout, root, arguments FROM dataset WHERE name = %(name)s

-- name: transfer_dataset_add
-- The layout of the dataset, which was there or is added.
WITH added AS (
    INSERT INTO dataset (name, layout, root, arguments)
    VALUES (%(name)s, %(layout)s, %(root)s, CASE WHEN %(known)s THEN %(arguments)s END)
    ON CONFLICT (name) DO NOTHING
    RETURNING layout
)
SELECT layout FROM added UNION ALL SELECT layout FROM dataset WHERE name = %(name)s LIMIT 1

-- name: transfer_scan
SELECT name, split, point_count, colour_source, reference_name, t_reference_scan
FROM scan
WHERE scan_id = %(scan_id)s

-- name: transfer_scan_add
INSERT INTO scan (dataset_id, name, split, point_count, colour_source, reference_name, t_reference_scan)
SELECT dataset_id, %(name)s, %(split)s, %(point_count)s, %(colour_source)s, %(reference_name)s,
       %(t_reference_scan)s::double precision[]
FROM dataset
WHERE name = %(dataset)s
RETURNING scan_id

-- name: transfer_terms
SELECT term_id, text FROM term WHERE term_id = ANY(%(ids)s)

-- name: transfer_encoders
SELECT encoder_id, name, revision, dimension, views, tokens, options
FROM encoder
WHERE encoder_id = ANY(%(ids)s)
ORDER BY encoder_id

-- name: transfer_vocabularies
SELECT vocabulary_id, v.name, kind FROM vocabulary v JOIN dataset d USING (dataset_id) WHERE d.name = %(dataset)s

-- name: transfer_vocabulary_add
-- No row where a list of that name is there: it stays as it is.
INSERT INTO vocabulary (name, kind, dataset_id)
SELECT %(name)s, %(kind)s, dataset_id FROM dataset WHERE name = %(dataset)s
ON CONFLICT (name) DO NOTHING
RETURNING vocabulary_id

-- name: transfer_vocabulary_terms
SELECT term_id, stands_for, position FROM vocabulary_term WHERE vocabulary_id = %(id)s

-- name: transfer_vocabulary_fill
INSERT INTO vocabulary_term (vocabulary_id, term_id, stands_for, position)
SELECT %(id)s, term_id, stands_for, position
FROM unnest(%(terms)s::integer[], %(stand_for)s::integer[], %(places)s::integer[])
     AS listed (term_id, stands_for, position)

-- name: transfer_embeddings
SELECT encoder_id, term_id, embedding FROM term_embedding WHERE term_id = ANY(%(ids)s)

-- name: transfer_embeddings_add
INSERT INTO term_embedding (encoder_id, term_id, embedding)
SELECT encoder_id, term_id, embedding::halfvec
FROM unnest(%(encoders)s::integer[], %(terms)s::integer[], %(embeddings)s::text[])
     AS said (encoder_id, term_id, embedding)
ON CONFLICT DO NOTHING
