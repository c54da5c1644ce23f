-- Drops all that the numbered files create, so that a migration sees bare tables. Names that an older
-- package created stay listed here until the migration that retires them.
DROP FUNCTION IF EXISTS evaluation_recall_by_class_v1, evaluation_recall_v1, prune_terms_v1, delete_scan_v1, missing_frames_v1, storage_report_v1, map_predicates_v1, classify_predictions_v1,
    scans_called_v1, vocabulary_vectors_v1, vocabulary_id_v1, search_predictions_v1, search_predictions_statement_v1,
    find_prediction_v1, classify_nodes_v1, search_nodes_v1,
    uses_node_index_v1, search_nodes_statement_v1, node_join_v1, node_conditions_v1, create_node_index_v1,
    term_vector_v1, drop_unused_indexes_v1, feature_diff_v1,
    replace_index_v1, create_index_beside_v1, create_pair_index_v1, build_index_v1, vector_index_lock_v1, feature_stats_v1,
    feature_units_v1, pair_index_memory_v1, pair_index_name_v1,
    node_index_memory_v1, node_index_name_v1, find_encoder_v1;
DROP VIEW IF EXISTS v_evaluation_rank, v_judged_member, v_checkpoint, v_run, v_edge_prediction, v_node_prediction, v_instance_attribute, v_unit_pair, v_unit_member, v_relation_caption, v_subgraph, v_subgraph_relation, v_pair_frame, v_scan, v_evidence, v_relationship, v_node;
-- What views use.
DROP FUNCTION IF EXISTS run_lock_key_v1;
