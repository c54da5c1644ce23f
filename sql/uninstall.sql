-- Drops all that the numbered files create, so that a migration sees bare tables. Names that an older
-- package created stay listed here until the migration that retires them.
DROP FUNCTION IF EXISTS search_triplets_v1, pair_frames_v1, triplet_source_v1, best_triplets_v1, triplets_by_index_v1,
    best_of_both_v1, triplet_list_v1, said_phrases_v1, caption_words_v1, check_triplet_vector_v1,
    nearest_phrases_statement_v1, nearest_pairs_statement_v1, triplet_candidates_v1,
    listed_triplets_statement_v1, triplet_lookup_v1, exact_triplets_statement_v1, triplet_nodes_v1,
    triplet_statement_v1, triplet_edges_v1, triplet_conditions_v1, triplet_node_conditions_v1,
    rescan_diff_v1, visits_transform_v1, annotated_changes_v1, match_objects_v1, placed_objects_v1, keep_numbers_v1, are_of_one_room_v1,
    t_reference_scan_v1, bounds_shift_v1, box_bounds_v1, turn_degrees_v1, is_rigid_v1, point_distance_v1, rigid_point_v1, rigid_inverse_v1, rigid_product_v1,
    scene_graph_v1, prediction_of_scan_v1, scene_nodes_v1, scene_edges_v1, scene_scan_id_v1, label_condition_v1, similar_instances_v1, evaluation_recall_by_class_v1, evaluation_recall_v1, prune_terms_v1, delete_scan_v1, missing_frames_v1, storage_report_v1, map_predicates_v1, classify_predictions_v1,
    scans_called_v1, vocabulary_vectors_v1, vocabulary_id_v1, search_predictions_v1, search_predictions_statement_v1,
    find_prediction_v1, classify_nodes_v1, search_nodes_v1,
    uses_node_index_v1, search_nodes_statement_v1, node_join_v1, node_conditions_v1, create_node_index_v1,
    term_vector_v1, drop_unused_indexes_v1, feature_diff_v1,
    replace_index_v1, create_index_beside_v1, create_pair_index_v1, build_index_v1, vector_index_lock_v1, feature_stats_v1,
    feature_units_v1, pair_index_memory_v1, pair_index_name_v1,
    node_index_memory_v1, node_index_name_v1, find_encoder_v1;
DROP VIEW IF EXISTS v_scene_graph, v_relation, v_instance_label, v_correction, v_corrected_relation, v_corrected_label, v_evaluation_rank, v_judged_member, v_checkpoint, v_run, v_edge_prediction, v_node_prediction, v_instance_attribute, v_unit_pair, v_unit_member, v_relation_caption, v_subgraph, v_subgraph_relation, v_pair_frame, v_scan, v_evidence, v_relationship, v_node;
-- What views use.
DROP FUNCTION IF EXISTS run_lock_key_v1;
