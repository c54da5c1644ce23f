-- name: vocabularies
SELECT v.vocabulary_id, v.name, v.kind, d.name,
       (SELECT count(*) FROM vocabulary_term vt WHERE vt.vocabulary_id = v.vocabulary_id),
       (SELECT count(stands_for) FROM vocabulary_term vt WHERE vt.vocabulary_id = v.vocabulary_id),
       (SELECT coalesce(jsonb_object_agg(e.name || '@' || e.revision, n.terms), '{}')
        FROM (SELECT te.encoder_id, count(*) AS terms
              FROM vocabulary_term vt
              JOIN term_embedding te USING (term_id)
              WHERE vt.vocabulary_id = v.vocabulary_id
              GROUP BY te.encoder_id) AS n
        JOIN encoder e USING (encoder_id))
FROM vocabulary v
LEFT JOIN dataset d USING (dataset_id)
WHERE %(name)s::text IS NULL OR v.name = %(name)s
ORDER BY v.name

-- name: vocabulary_words
SELECT vt.position, t.text, meant.text,
       (SELECT coalesce(array_agg(e.name || '@' || e.revision ORDER BY e.name, e.revision), '{}')
        FROM term_embedding te
        JOIN encoder e USING (encoder_id)
        WHERE te.term_id = t.term_id)
FROM vocabulary_term vt
JOIN term t USING (term_id)
LEFT JOIN term meant ON meant.term_id = vt.stands_for
WHERE vt.vocabulary_id = %(vocabulary_id)s
ORDER BY vt.position, t.text

-- name: vocabulary_make
INSERT INTO vocabulary (name, kind, dataset_id)
VALUES (%(name)s, %(kind)s, (SELECT dataset_id FROM dataset WHERE name = %(dataset)s))
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, dataset_id = excluded.dataset_id
RETURNING vocabulary_id

-- name: vocabulary_clear
DELETE FROM vocabulary_term WHERE vocabulary_id = %(vocabulary_id)s

-- name: vocabulary_set_meanings
UPDATE vocabulary_term vt
SET stands_for = new.stands_for
FROM unnest(%(term_ids)s::integer[], %(stands_for)s::integer[]) AS new (term_id, stands_for)
WHERE vt.vocabulary_id = %(vocabulary_id)s AND vt.term_id = new.term_id

-- name: vocabulary_drop
DELETE FROM vocabulary WHERE vocabulary_id = %(vocabulary_id)s
