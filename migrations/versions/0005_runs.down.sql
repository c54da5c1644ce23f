DROP TABLE evaluation_rank, evaluation, edge_prediction, node_prediction, prediction, checkpoint_part, checkpoint,
    run_metric, run, instance_attribute;
ALTER TABLE vocabulary_term DROP COLUMN stands_for;
