-- name: search_nodes
SELECT scan, instance, label, similarity, centroid_m, dataset
FROM search_nodes_v1(%(query)s::vector, %(encoder)s, %(k)s, %(filters)s)

-- name: labels_like
-- Labels, corrected ones too, that share a word or a piece with what was typed.
SELECT text
FROM (SELECT t.text FROM term t WHERE EXISTS (SELECT FROM instance i WHERE i.label_id = t.term_id)
      UNION
      SELECT c.label FROM v_corrected_label c) AS known
WHERE strpos(lower(text), lower(%(text)s)) > 0 OR strpos(lower(%(text)s), lower(text)) > 0
ORDER BY 1
LIMIT 5

-- name: has_label
SELECT EXISTS (SELECT FROM instance i JOIN term t ON t.term_id = i.label_id
               WHERE lower(t.text) = lower(%(text)s))
    OR EXISTS (SELECT FROM v_corrected_label WHERE lower(label) = lower(%(text)s))

-- name: has_dataset
SELECT EXISTS (SELECT FROM dataset WHERE name = %(text)s)

-- name: dataset_names
SELECT name FROM dataset ORDER BY name
