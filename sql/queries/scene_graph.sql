-- name: scene_graph
SELECT scene_graph_v1(%(scan)s, %(prediction)s, %(classes)s, %(predicates)s, %(k)s::integer)

-- name: scene_edges
-- With a prediction its relations by a vocabulary, that of the dataset unless named.
SELECT e.subject, e.predicate, e.object, e.source, e.similarity, e.caption, e.distance_m
FROM scene_edges_v1(%(scan_id)s, prediction_of_scan_v1(%(scan_id)s, %(prediction)s),
                    coalesce(%(predicates)s, %(dataset)s || '-predicates'), 1) e
