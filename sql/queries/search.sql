-- name: search_nodes
SELECT scan, instance, label, similarity, centroid_m, dataset
FROM search_nodes_v1(%(query)s::vector, %(encoder)s, %(k)s, %(filters)s)

-- name: labels_like
-- Labels that share a word or a piece with what was typed.
SELECT DISTINCT t.text
FROM term t
JOIN instance i ON i.label_id = t.term_id
WHERE strpos(lower(t.text), lower(%(text)s)) > 0 OR strpos(lower(%(text)s), lower(t.text)) > 0
ORDER BY 1
LIMIT 5

-- name: has_label
SELECT EXISTS (SELECT FROM instance i JOIN term t ON t.term_id = i.label_id
               WHERE lower(t.text) = lower(%(text)s))

-- name: has_dataset
SELECT EXISTS (SELECT FROM dataset WHERE name = %(text)s)

-- name: dataset_names
SELECT name FROM dataset ORDER BY name
