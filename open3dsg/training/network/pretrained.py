"""Weights that others published, in the formats in which they published them.

- ``pointnet.pth``: PointNet trained to classify ModelNet40, of the repository Pointnet_Pointnet2_pytorch;
  the encoder is ``feat.*`` of ``model_state_dict``.
- ``pointnet2_ulip.pt``: ULIP's PointNet++ (Xue et al., CVPR 2023); the encoder is
  ``module.point_encoder.*`` of ``state_dict``.
- A checkpoint of Open3DSG as Lightning writes it; the network is ``model.*`` of ``state_dict``.

Names here differ, and layers over points are linear ones where those are convolutions of size 1. No code in
such a file is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from open3dsg.encoders.checkpoint import load_state
from open3dsg.errors import BadFileError, UserError
from open3dsg.training.network.pointnet import PointNet

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from open3dsg.training.network.network import SceneGraphNetwork

INSTALL = "pip install 'open3dsg[train]'"

_Names: TypeAlias = tuple[tuple[str, str], ...]  # how names of theirs begin, and ours of the same

_TRANSFORM: _Names = (
    ("conv1.", "points.0."),
    ("bn1.", "points.1."),
    ("conv2.", "points.3."),
    ("bn2.", "points.4."),
    ("conv3.", "points.6."),
    ("bn3.", "points.7."),
    ("fc1.", "cloud.0."),
    ("bn4.", "cloud.1."),
    ("fc2.", "cloud.3."),
    ("bn5.", "cloud.4."),
    ("fc3.", "matrix."),
)
_POINTNET: _Names = (
    *((f"stn.{theirs}", f"of_points.{ours}") for theirs, ours in _TRANSFORM),
    *((f"fstn.{theirs}", f"of_features.{ours}") for theirs, ours in _TRANSFORM),
    ("conv1.", "first.0."),
    ("bn1.", "first.1."),
    ("conv2.", "second.0."),
    ("bn2.", "second.1."),
    ("conv3.", "third.0."),
    ("bn3.", "third.1."),
)
_ABSTRACTIONS = (("sa1", "sa1.layers"), ("sa2", "sa2.layers"), ("sa3", "sa3"))
_POINTNET2: _Names = (
    *((f"{part}.mlp_convs.{n}.", f"{ours}.{3 * n}.") for part, ours in _ABSTRACTIONS for n in range(3)),
    *((f"{part}.mlp_bns.{n}.", f"{ours}.{3 * n + 1}.") for part, ours in _ABSTRACTIONS for n in range(3)),
    ("fc1.", "fc1.0."),
    ("bn1.", "fc1.1."),
    ("fc2.", "fc2.0."),
    ("bn2.", "fc2.1."),
)
_OPEN3DSG: _Names = (
    *((f"objPointNet.{theirs}", f"object_points.{ours}") for theirs, ours in (*_POINTNET, *_POINTNET2)),
    *((f"relPointNet.{theirs}", f"pair_points.{ours}") for theirs, ours in (*_POINTNET, *_POINTNET2)),
    ("bbox_emb.", "box."),
    ("angle_emb.", "angle."),
    ("dist_pred_emb.", "offset."),
    ("pointnet_adapter.", "adapter."),
    ("gconv_net.gconvs.", "backbone.layers."),
    ("obj_projector.", "object_projector."),
    ("rel_projector.", "relation_projector."),
    ("blip_projector.layers.", "token_projector.layers."),
    ("blip_layernorm.", "token_projector.norm."),
    ("rel_classifier.bn", "relation_projector.norm"),
    ("rel_classifier.", "relation_projector."),
)
_WITHIN: _Names = (  # parts of layers of Open3DSG, wherever they stand in a name
    (".nn1.", ".triplet."),
    (".nn2.", ".node."),
    (".self_attn.qkv.", ".qkv."),
    (".self_attn.projection.", ".out."),
    (".layer_norm", ".norm"),
    (".mlp.fc1.", ".mlp.0."),
    (".mlp.fc2.", ".mlp.2."),
)
_ULIP = ("module.point_encoder.", "point_encoder.", "module.", "")
_INPUTS = ("of_points.points.0.weight", "first.0.weight", "sa1.layers.0.weight")


def load_point_weights(network: SceneGraphNetwork, path: Path) -> tuple[str, ...]:
    """Fill both point encoders from pointnet.pth or pointnet2_ulip.pt, whichever is of the network's kind.

    As published, an input layer that sees more channels than the file's (colours, and of pairs whose a point
    is) keeps its random weights: the names of those layers come back. Raises BadFileError where the file is
    not of such weights, or of other widths; UserError where the network's norm has no running statistics.
    """
    _refuse_group(network, path)
    prefixes: tuple[str, ...]
    if isinstance(network.object_points, PointNet):
        kind, names, prefixes, telling = "PointNet", _POINTNET, ("feat.", "module.feat."), "conv1."
    else:
        kind, names, prefixes, telling = "PointNet++", _POINTNET2, _ULIP, "sa1."
    held = load_state(path, kind, INSTALL, scores=True)
    found = [prefix for prefix in prefixes if any(name.startswith(prefix + telling) for name in held)]
    if not found:
        raise BadFileError(f"{path}: not the weights of {kind}: no tensor's name begins with {prefixes[0]}")
    state = _renamed(_without(found[0], held), names)
    parts = {"object_points": network.object_points, "pair_points": network.pair_points}
    return tuple(
        f"{part}.{name}"
        for part, encoder in parts.items()
        for name in _fill(encoder, state, path, kind, may_differ=_INPUTS)
    )


def load_published(network: SceneGraphNetwork, path: Path) -> None:
    """Fill the network from a Lightning checkpoint of the published Open3DSG.

    What the network does not have is left aside: the published one holds an embedding of centroids that it
    never uses, and a supervised run a projector of relations. The position embedding is not in the file.
    Raises BadFileError, naming it, for a tensor that is missing or of another shape: the network's options
    are not those of the checkpoint; UserError where its norm has no running statistics.
    """
    _refuse_group(network, path)
    held = load_state(path, "Open3DSG", INSTALL, scores=True)
    _fill(network, _renamed(_without("model.", held), _OPEN3DSG), path, "Open3DSG")


def _refuse_group(network: SceneGraphNetwork, path: Path) -> None:
    if network.options.norm == "group":
        raise UserError(f"{path}: its layers have running statistics: give --norm batch or --norm frozen")


def _without(prefix: str, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): held[name] for name in held if name.startswith(prefix)}


def _renamed(state: Mapping[str, Tensor], names: _Names) -> dict[str, Tensor]:
    """Give tensors the names that they have here; those that have none are left aside."""
    found = {}
    for name, tensor in state.items():
        for theirs, ours in names:
            if name.startswith(theirs):
                here = ours + name.removeprefix(theirs)
                for within, becomes in _WITHIN:
                    here = here.replace(within, becomes)
                found[here] = tensor.flatten(1) if tensor.dim() > 1 else tensor
                break
    return found


def _fill(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, kind: str, may_differ: Collection[str] = ()
) -> list[str]:
    """Load `state` into `module`; return which of `may_differ` stay as they are, being of another shape."""
    filled, kept = {}, []
    for name, here in module.state_dict().items():
        theirs = name.replace(".rows.", ".")  # the published norms have no part of their own for rows
        if name.endswith("token_projector.positions"):
            continue
        if theirs not in state:
            raise BadFileError(f"{path}: not the weights of this {kind} network: no {theirs}")
        if state[theirs].shape == here.shape:
            filled[name] = state[theirs]
        elif theirs in may_differ:
            kept.append(theirs)
        else:
            shapes = " x ".join(map(str, state[theirs].shape)), " x ".join(map(str, here.shape))
            raise BadFileError(
                f"{path}: not the weights of this {kind} network: {theirs} is {shapes[0]}, not {shapes[1]}"
            )
    module.load_state_dict(filled, strict=False)
    return kept
