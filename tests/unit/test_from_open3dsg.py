"""docs/from-open3dsg.md names every published flag, and commands that this version has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from open3dsg.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "from-open3dsg.md"

# The argparse flags of each script that a README names.
PUBLISHED = {
    "gen_scannet_subgraphs.py": (
        "type relation target_scan label_type mapping v2 verbose debug parallel search_method "
        "radius_receptive split radius_seed min_segs split_method"
    ),
    "get_object_frame.py": "mode dataset parallel",
    "preprocess_3rscan.py": "parallel",
    "preprocess_scannet.py": "parallel",
    "run.py": (
        "gpus workers seed run_name mixed_precision accumulate_grad_batches epochs batch_size lr "
        "lr_scheduler wd bn_momentum bn_decay decay_step w_obj w_rel use_rgb gnn_layers "
        "graph_backbone gconv_dim hidden_dim max_nodes max_edges dataset mini_dataset augment "
        "top_k_frames scales dump_features load_features clip_model node_model edge_model blip "
        "avg_blip_emb blip_proj_layers llava avg_llava_emb pointnet2 clean_pointnet supervised_edges "
        "test checkpoint weight_2d n_beams gt_objects vis_graphs predict_materials test_scans_3rscan "
        "predict_from_2d quick_eval object_context update_hparams manual_mapping skip_edge_features "
        "rel_chunk_size blip_batch_size"
    ),
    "merge_instance_masks.py": "scan dataset masks_dir",
    "split_instance_masks.py": "scan dataset eps min_samples",
    "reconstruct_pointcloud.py": "graph out instances",
    "visualize_instance_masks.py": "scan_dir object2frame out top_k",
    "save_frame_projections.py": "scan_dir instance out_dir",
    "find_missing_obj_frames.py": "root scene out",
    "precompute_full_graph.py": "split out_dir extra_args",
    "merge_subgraphs.py": "split features_dir out_dir preproc_dir subgraph_dir",
    "query_node_features.py": "features graph scene word topk out_ply log",
    "query_relation_features.py": "features graph scene word_a word_b relation topk out_ply log",
    "openseg_batch_jpeg.py": "model_dir clusters",
    "vram_profile.py": (
        "dataset clip_model node_model edge_model blip llava blip_batch_size avg_blip_emb "
        "blip_proj_layers avg_llava_emb dump_features load_features skip_edge_features pointnet2 "
        "clean_pointnet top_k_frames scales max_nodes max_edges gpus gpu_ids"
    ),
}


def spans() -> list[str]:
    """Return what stands in backticks on the page."""
    return re.findall(r"`([^`]+)`", PAGE.read_text())


def commands() -> list[str]:
    return sorted({span for span in spans() if span.startswith("open3dsg ")})


def told_of(script: str) -> Iterator[str]:
    """Give what the page tells of a script: the rows that name it, or all below a heading that does."""
    name = re.escape(script)
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        if re.search(rf"(^|[ ,]){name}", heading):
            yield from body.splitlines()
        else:
            yield from (line for line in body.splitlines() if re.search(rf"`{name}\b", line))


@pytest.mark.parametrize("script", PUBLISHED)
def test_every_published_flag_is_told(script: str) -> None:
    told = "\n".join(line.split(" | ")[0] for line in told_of(script))
    missing = [flag for flag in PUBLISHED[script].split() if not re.search(rf"--{flag}\b", told)]
    assert missing == []


def test_commands_are_named() -> None:
    assert len(commands()) > 40


@pytest.mark.parametrize("line", commands())
def test_a_command_is_there_with_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    context = click.Context(cli, info_name="open3dsg")
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("--"):
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]!r}"
        context, command = click.Context(found, parent=context, info_name=words[0]), found
        words = words[1:]
    if not words:
        return  # named as a whole
    chosen, left, _ = command.make_parser(context).parse_args(args=list(words))
    assert left == []
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) and parameter.name in chosen:
            assert chosen[parameter.name] in parameter.type.choices
