-- name: term_ids
SELECT text, term_id FROM term WHERE text = ANY (%(texts)s)

-- name: term_add
INSERT INTO term (text)
SELECT text FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS new (text, place)
ORDER BY place
ON CONFLICT (text) DO NOTHING

-- name: hold_terms
SELECT pg_advisory_lock_shared(hashtextextended('open3dsg:terms', 0))

-- name: release_terms
SELECT pg_advisory_unlock_shared(hashtextextended('open3dsg:terms', 0))

-- name: try_terms_alone
SELECT pg_try_advisory_xact_lock(hashtextextended('open3dsg:terms', 0))

-- name: prune_terms
SELECT prune_terms_v1()

-- name: vocabulary_upsert
INSERT INTO vocabulary (name, kind)
VALUES (%(name)s, %(kind)s)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind
RETURNING vocabulary_id

-- name: vocabulary_add_terms
INSERT INTO vocabulary_term (vocabulary_id, term_id, position)
SELECT DISTINCT ON (term_id) %(vocabulary_id)s, term_id, position
FROM unnest(%(term_ids)s::integer[], %(positions)s::integer[]) AS new (term_id, position)
ORDER BY term_id, position
ON CONFLICT (vocabulary_id, term_id) DO NOTHING

-- name: vocabulary_terms_without_embedding
-- Of one vocabulary, or of all lists of classes.
SELECT DISTINCT t.text
FROM vocabulary v
JOIN vocabulary_term vt USING (vocabulary_id)
JOIN term t USING (term_id)
WHERE CASE WHEN %(name)s::text IS NULL THEN v.kind = 'class' ELSE v.name = %(name)s END
  AND NOT EXISTS (SELECT FROM term_embedding te
                  WHERE te.term_id = t.term_id AND te.encoder_id = %(encoder_id)s)
ORDER BY t.text

-- name: term_embedding
SELECT te.embedding
FROM term_embedding te
JOIN term t USING (term_id)
WHERE te.encoder_id = %(encoder_id)s AND t.text = %(text)s

-- name: term_embedding_add
INSERT INTO term_embedding (encoder_id, term_id, embedding)
VALUES (%(encoder_id)s, %(term_id)s, %(embedding)s)
ON CONFLICT (encoder_id, term_id) DO NOTHING
