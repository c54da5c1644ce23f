-- name: similar_instances
SELECT scan, instance, label, similarity, centroid_m, dataset
FROM similar_instances_v1(%(scan)s, %(instance)s, %(k)s, %(encoder)s, %(prediction)s, %(filters)s, %(same_scan)s)
