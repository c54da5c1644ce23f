"""Published weights: small files in the true formats, and what the networks then say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from open3dsg.errors import BadFileError, UserError
from open3dsg.training.batch import SceneGraph
from open3dsg.training.network import SceneGraphNetwork, load_point_weights, load_published
from open3dsg.training.network.network import edge_clouds
from open3dsg.training.network.pointnet import PointNet
from open3dsg.training.network.pointnet2 import PointNet2
from open3dsg.training.options import NetworkOptions, TargetShape
from tests import published_network as published
from tests.made_graphs import made_graph

WIDTHS = (4, 8, 16)
OPTIONS = NetworkOptions(
    point_widths=WIDTHS,
    adapter_dim=12,
    gnn_layers=3,
    gconv_dim=6,
    hidden_dim=10,
    projector_dim=14,
    blip_layers=2,
)
TOKENS = TargetShape(5, "tokens", 16, tokens=4)
POOLED = TargetShape(5, "pooled", 16)


def saved(path: Path, held: dict[str, Any]) -> Path:
    torch.save(held, path)
    return path


def classifier_of(encoder: nn.Module) -> dict[str, Any]:
    """What Pointnet_Pointnet2_pytorch saves: the classifier, its optimizer, and scores of numpy."""
    whole = nn.Module()
    whole.feat = encoder
    whole.fc1, whole.bn1 = nn.Linear(16, 8), nn.BatchNorm1d(8)
    optimizer = torch.optim.Adam(whole.parameters())
    return {
        "epoch": 100,
        "instance_acc": np.mean([0.5, 1.0]),
        "class_acc": np.float64(0.9),
        "model_state_dict": whole.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    }


def ulip_of(encoder: nn.Module) -> dict[str, Any]:
    """What ULIP saves, under the names of several processes; texts and pictures have weights of their own."""
    state = {f"module.point_encoder.{name}": value for name, value in encoder.state_dict().items()}
    others = {"module.logit_scale": torch.ones(()), "module.positional_embedding": torch.ones(7, 3)}
    return {"epoch": 250, "state_dict": state | others, "best_acc1": np.float32(58.4), "args": None}


def lightning_of(network: nn.Module) -> dict[str, Any]:
    """What Lightning saves of the published module."""
    return {
        "epoch": 49,
        "global_step": 1000,
        "pytorch-lightning_version": "2.0.6",
        "state_dict": {f"model.{name}": value for name, value in network.state_dict().items()},
        "loops": {},
        "callbacks": {"ModelCheckpoint{'monitor': 'val/loss'}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [],
        "lr_schedulers": [{"best": 0.25, "num_bad_epochs": 1}],
        "hparams_name": "hparams",
        "hyper_parameters": {"gnn_layers": 3, "clip_model": "OpenSeg", "blip": True},
    }


def made_reference(shape: TargetShape) -> published.Open3dsg:
    blip = {"heads": 16, "blip_hidden": 70} if shape.targets == "tokens" else {}
    reference = published.Open3dsg(3, WIDTHS, 12, 6, 10, 14, (5, 16), **blip).eval()
    published.fill_with_noise(reference)
    return reference


def made_encoder(encoder: nn.Module) -> nn.Module:
    published.fill_with_noise(encoder)
    return encoder.eval()


def test_pointnet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = made_encoder(published.PointNet(3, WIDTHS))
    path = saved(tmp_path / "pointnet.pth", classifier_of(reference))
    network = SceneGraphNetwork(OPTIONS, POOLED).eval()
    random = network.pair_points.state_dict()["first.0.weight"].clone()
    kept = load_point_weights(network, path)
    clouds = torch.randn(3, 9, 3)
    torch.testing.assert_close(network.object_points(clouds)[0], reference(clouds))
    # Pairs have a fourth channel: all but the layers that see it are filled.
    assert kept == ("pair_points.of_points.points.0.weight", "pair_points.first.0.weight")
    found = network.pair_points.state_dict()
    assert torch.equal(found["first.0.weight"], random)
    for name, value in network.object_points.state_dict().items():
        if f"pair_points.{name}" not in kept:
            assert torch.equal(found[name], value), name


def test_pointnet2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = made_encoder(published.PointNet2(3, WIDTHS))
    path = saved(tmp_path / "pointnet2_ulip.pt", ulip_of(reference))
    options = replace(OPTIONS, point_encoder="pointnet2", norm="frozen")
    network = SceneGraphNetwork(options, POOLED).eval()
    assert load_point_weights(network, path) == ("pair_points.sa1.layers.0.weight",)
    assert isinstance(network.object_points, PointNet2)
    clouds = torch.rand(3, 20, 3) - 0.5
    torch.testing.assert_close(network.object_points(clouds)[0], reference(clouds))


@pytest.mark.parametrize("shape", [POOLED, TOKENS], ids=["pooled", "tokens"])
def test_open3dsg(tmp_path: Path, shape: TargetShape) -> None:
    torch.manual_seed(0)
    reference, positions = made_reference(shape), torch.randn(4, 16)
    path = saved(tmp_path / "epoch=49.ckpt", lightning_of(reference))
    network = SceneGraphNetwork(OPTIONS, shape, positions).eval()
    load_published(network, path)
    graph: SceneGraph = made_graph(2, instances=3, channels=3)
    pairs = edge_clouds(graph, slice(0, 6), 3)
    boxes = torch.cat([graph.instance_box[:, 3:6], graph.instance_centre, graph.instance_box[:, 6:]], dim=1)
    nodes, relations = reference(
        graph.instance_points, boxes, pairs, graph.edge_offset, graph.edge_index, positions
    )
    outputs = network(graph)
    torch.testing.assert_close(outputs.nodes, nodes)
    torch.testing.assert_close(outputs.relations, relations, rtol=1e-4, atol=1e-5)


def test_open3dsg_with_classes(tmp_path: Path) -> None:
    reference = made_reference(POOLED)
    head = nn.Module()
    head.fc1, head.fc2, head.fc3 = nn.Linear(6, 7), nn.Linear(7, 3), nn.Linear(3, 27)
    head.bn1, head.bn2 = nn.BatchNorm1d(7), nn.BatchNorm1d(3)
    published.fill_with_noise(head)
    reference.rel_classifier = head
    path = saved(tmp_path / "supervised.ckpt", lightning_of(reference.eval()))
    shape = TargetShape(5, "classes", classes=tuple(f"predicate {n}" for n in range(27)))
    network = SceneGraphNetwork(OPTIONS, shape).eval()
    load_published(network, path)
    edges = torch.randn(4, 6)
    hidden = torch.relu(head.bn1(head.fc1(edges)))
    expected = head.fc3(torch.relu(head.bn2(head.fc2(hidden))))
    torch.testing.assert_close(network.relation_projector(edges), expected)


@pytest.fixture(scope="module")
def pooled_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    return saved(folder / "epoch=49.ckpt", lightning_of(made_reference(POOLED)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gnn_layers": 4}, r"no backbone\.layers\.3\.triplet\.0\.weight"),
        ({"gconv_dim": 8}, r"adapter\.2\.weight is 6 x 12, not 8 x 12"),
        ({"centre": True}, r"no centre\.weight"),
        ({"geometry": True}, r"no node_geometry"),
        ({"use_rgb": True}, r"is 4 x 3, not 4 x 6"),
    ],
)
def test_other_options_are_told(pooled_checkpoint: Path, change: dict[str, Any], told: str) -> None:
    network = SceneGraphNetwork(replace(OPTIONS, **change), POOLED)
    with pytest.raises(BadFileError, match=told) as error:
        load_published(network, pooled_checkpoint)
    assert str(error.value).startswith(f"{pooled_checkpoint}: ")
    assert "\n" not in str(error.value)


def test_other_files_are_told(tmp_path: Path) -> None:
    network = SceneGraphNetwork(OPTIONS, POOLED)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ulip = saved(tmp_path / "pointnet2_ulip.pt", ulip_of(published.PointNet2(3, WIDTHS)))
    with pytest.raises(
        BadFileError, match=r"not the weights of PointNet: no tensor's name begins with feat\."
    ):
        load_point_weights(network, ulip)
    wide = saved(tmp_path / "wide.pth", classifier_of(published.PointNet(3, (4, 8, 32))))
    with pytest.raises(BadFileError, match=r"of_points\.points\.6\.weight is 32 x 8, not 16 x 8"):
        load_point_weights(network, wide)
    with pytest.raises(BadFileError, match="no such file"):
        load_published(network, tmp_path / "missing.ckpt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Stranger:
    """What no file of weights has to hold."""


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    held = classifier_of(published.PointNet(3, WIDTHS)) | {"extra": Stranger()}
    with pytest.raises(BadFileError, match=r"its pickle wants to run .*Stranger"):
        load_point_weights(SceneGraphNetwork(OPTIONS, POOLED), saved(tmp_path / "pointnet.pth", held))


def test_group_norm_has_no_place_for_statistics(tmp_path: Path) -> None:
    network = SceneGraphNetwork(replace(OPTIONS, norm="group"), POOLED)
    for load in (load_point_weights, load_published):
        with pytest.raises(UserError, match="give --norm batch or --norm frozen"):
            load(network, tmp_path / "any.pth")
    assert isinstance(network.object_points, PointNet)
