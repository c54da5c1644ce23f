"""The whole network: points and boxes of a scene graph to embeddings of its nodes and edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from open3dsg.errors import UserError
from open3dsg.training.batch import Outputs
from open3dsg.training.network.backbones import Layers
from open3dsg.training.network.geometry import EDGE_NUMBERS, NODE_NUMBERS, edge_numbers, node_numbers
from open3dsg.training.network.norm import perceptron
from open3dsg.training.network.pointnet import PointNet
from open3dsg.training.network.pointnet2 import PointNet2
from open3dsg.training.network.projectors import EDGES_AT_ONCE, ClassHead, TokenProjector

if TYPE_CHECKING:
    from collections.abc import Callable

    from open3dsg.training.batch import SceneGraph
    from open3dsg.training.options import NetworkOptions, TargetShape

_CLOUDS_AT_ONCE = 256  # outside training
_BOX = 32  # numbers that a box becomes, and an angle; as published
_OFFSET = 2 * _BOX  # an offset becomes as many as box and angle together: nodes and edges share the adapter


class SceneGraphNetwork(nn.Module):
    """Embeds the nodes of a graph, and of its edges those that are asked for."""

    def __init__(self, options: NetworkOptions, shape: TargetShape, positions: Tensor | None = None) -> None:
        """Make it with random weights, for targets of `shape`.

        `positions`, (T, d), is added to the tokens of an edge and kept as it is; without it, it is learnt.
        Raises UserError for widths that do not fit each other.
        """
        super().__init__()
        self.options, self.shape = options, shape
        self.channels = 6 if options.use_rgb else 3
        self.object_points = _point_encoder(options, self.channels)
        self.pair_points = _point_encoder(options, self.channels + 1)
        self.box = nn.Linear(6, _BOX)
        self.angle = nn.Linear(1, _BOX)
        self.centre = nn.Linear(3, _OFFSET) if options.centre else None
        self.offset = nn.Linear(3, _OFFSET)
        width = options.gconv_dim
        self.adapter = perceptron(
            [self.object_points.dimension + _OFFSET, options.adapter_dim, width], last=True
        )
        self.node_geometry = _geometry(options, NODE_NUMBERS)
        self.edge_geometry = _geometry(options, EDGE_NUMBERS)
        self.backbone = Layers(options)
        hidden = options.projector_dim
        self.object_projector = perceptron([width, hidden, hidden, shape.node_dimension])
        self.token_projector: TokenProjector | None = None
        self.relation_projector: nn.Module
        if shape.targets == "classes":
            count = len(shape.classes)
            self.relation_projector = ClassHead(
                width, hidden // 2, count, options.norm, dropout=options.dropout
            )
            return
        dimension = shape.relation_dimension
        self.relation_projector = perceptron([width, hidden, hidden, dimension])
        if shape.targets == "tokens":
            self.token_projector = TokenProjector(dimension, shape.tokens, options.blip_layers, positions)

    def forward(self, graph: SceneGraph, edges: Tensor | None = None) -> Outputs:
        """Embed all nodes, and the edges at `edges`, (F,) int64 places; None: all.

        The other edges take part in the messages. Raises UserError where the clouds lack colours that the
        network needs.
        """
        self._check_channels(graph)
        nodes, skews_of_nodes = self._nodes(graph)
        related, skews_of_edges = self._edges(graph)
        nodes, related = self.backbone(nodes, related, graph.edge_index)
        if edges is None:
            edges = torch.arange(len(related), device=related.device)
        relations, classes = self._relations(related[edges])
        transforms = tuple(skews for skews in (skews_of_nodes, skews_of_edges) if skews is not None)
        return Outputs(self.object_projector(nodes), edges, relations, classes, transforms)

    def _nodes(self, graph: SceneGraph) -> tuple[Tensor, Tensor | None]:
        """Return (M, gconv_dim), and the skews of PointNet's transforms, (M,)."""
        clouds = graph.instance_points
        points, skews = self._in_parts(
            lambda part: self.object_points(clouds[part][..., : self.channels]), len(clouds)
        )
        lengths, angle = graph.instance_box[:, 3:6], graph.instance_box[:, 6:]
        # The published boxes are lengths first, then the mean of the points, not the middle.
        placed = torch.cat([lengths, graph.instance_centre], dim=-1)
        box = torch.cat([self.box(placed), self.angle(angle)], dim=-1)
        if self.centre is not None:
            box = box + self.centre(graph.instance_centre)
        nodes = self.adapter(torch.cat([points, box], dim=-1))
        if self.node_geometry is not None:
            nodes = nodes + self.node_geometry(node_numbers(graph))
        return nodes, skews

    def _edges(self, graph: SceneGraph) -> tuple[Tensor, Tensor | None]:
        """Return (E, gconv_dim), and the skews of PointNet's transforms, (E,)."""
        points, skews = self._in_parts(
            lambda part: self.pair_points(edge_clouds(graph, part, self.channels)), len(graph.edge_pair)
        )
        edges = self.adapter(torch.cat([points, self.offset(graph.edge_offset)], dim=-1))
        if self.edge_geometry is not None:
            edges = edges + self.edge_geometry(edge_numbers(graph))
        return edges, skews

    def _relations(self, edges: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return embeddings or tokens, and scores of classes; one of the two is None."""
        embedded = self.relation_projector(edges)
        if self.shape.targets == "classes":
            return None, embedded
        projector = self.token_projector
        if projector is None:
            return embedded, None
        if self._at_once or len(edges) <= EDGES_AT_ONCE:
            return projector(embedded), None
        return torch.cat([projector(part) for part in embedded.split(EDGES_AT_ONCE)]), None

    def _in_parts(
        self, encode: Callable[[slice], tuple[Tensor, Tensor | None]], count: int
    ) -> tuple[Tensor, Tensor | None]:
        """Encode `count` clouds, outside training a few at a time."""
        if self._at_once or count <= _CLOUDS_AT_ONCE:
            return encode(slice(0, count))
        starts = range(0, count, _CLOUDS_AT_ONCE)
        parts = [encode(slice(start, min(start + _CLOUDS_AT_ONCE, count))) for start in starts]
        skews = [found for _, found in parts if found is not None]
        return torch.cat([embedded for embedded, _ in parts]), torch.cat(skews) if skews else None

    @property
    def _at_once(self) -> bool:
        """Whether gradients, which hold all that was computed, or a batch's statistics are wanted."""
        return self.training or torch.is_grad_enabled()

    def _check_channels(self, graph: SceneGraph) -> None:
        if graph.instance_points.shape[-1] < self.channels:
            raise UserError("this network needs colours: its points are to be read with use_rgb")


def edge_clouds(graph: SceneGraph, part: slice, channels: int) -> Tensor:
    """Return the clouds of the edges of `part`: (n, K, channels + 1).

    The last channel says whose a point is: 1 the subject's, 2 the object's, 0 of neither.
    """
    pair, turned = graph.edge_pair[part], graph.edge_turned[part]
    owner = graph.pair_owner[pair]
    owner = torch.where(turned[:, None] & (owner > 0), 3 - owner, owner)
    points = graph.pair_points[pair][..., :channels]
    return torch.cat([points, owner[..., None].to(points.dtype)], dim=-1)


def _point_encoder(options: NetworkOptions, channels: int) -> PointNet | PointNet2:
    if options.point_encoder == "pointnet2":
        return PointNet2(channels, options.point_widths, options.norm, dropout=options.dropout)
    return PointNet(channels, options.point_widths, options.norm, transforms=options.transforms)


def _geometry(options: NetworkOptions, numbers: int) -> nn.Module | None:
    """Return what joins the adapter's output, or None where boxes are told as published."""
    width = options.gconv_dim
    return perceptron([numbers, 2 * width, width], options.norm) if options.geometry else None
