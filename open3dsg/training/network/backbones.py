"""How nodes and edges hear of each other. Each takes (M, w) nodes, (E, w) edges and gives both anew.

``edge_index``, (2, E), has the subject of an edge, then its object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing, TransformerConv

from open3dsg.errors import UserError
from open3dsg.training.network.norm import perceptron

if TYPE_CHECKING:
    from open3dsg.training.options import NetworkOptions, Norm

_DROPPED = 0.3  # by attention and transformer, in training: the published rate between layers of attention


class TripletConvolution(MessagePassing):  # type: ignore[misc]
    """A layer of 3DSSG (Wald et al., CVPR 2020; after Johnson et al., CVPR 2018), as Open3DSG has it.

    A perceptron makes of subject, edge and object the new edge and a message; an object takes the maximum
    of what comes to it, and adds it to itself.
    """

    def __init__(self, width: int, hidden: int, norm: Norm) -> None:
        """Work on nodes and edges of `width`, with messages of `hidden` numbers."""
        super().__init__(aggr="max")
        self.sizes = [hidden, width, hidden]
        self.triplet = perceptron([3 * width, hidden, 2 * hidden + width], norm, last=True)
        self.node = perceptron([hidden, hidden, width], norm)

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Map (M, width) and (E, width) to the same shapes."""
        made = self.edge_updater(edge_index, nodes=nodes, edges=edges)
        of_object, new_edges, of_subject = made.split(self.sizes, dim=-1)
        heard = self.propagate(edge_index, messages=of_object + of_subject, size=(len(nodes), len(nodes)))
        return nodes + self.node(heard), new_edges

    def edge_update(self, nodes_i: Tensor, edges: Tensor, nodes_j: Tensor) -> Tensor:
        """Mix object, edge and subject, (E, width) each, to (E, 2 hidden + width)."""
        mixed: Tensor = self.triplet(torch.cat([nodes_i, edges, nodes_j], dim=-1))
        return mixed

    def message(self, messages: Tensor) -> Tensor:
        """Send what was made: (E, hidden)."""
        return messages


class FeatureAttention(MessagePassing):  # type: ignore[misc]
    """A layer of feature-wise attention, FAN, of SceneGraphFusion (Wu et al., CVPR 2021).

    A subject weighs each number of what its objects tell it, by itself and by the edge, head by head; the
    maximum over its edges joins it.
    """

    def __init__(self, width: int, attention: int, heads: int, norm: Norm, dropout: float) -> None:
        """Work on nodes and edges of `width`, with values of `attention` numbers in `heads` heads."""
        super().__init__(aggr="max", flow="target_to_source")
        self.heads = heads
        share, value = width // heads, attention // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, attention)
        self.weigh = perceptron([2 * share, 2 * share, value])
        self.edge = perceptron([3 * width, 2 * width, width], norm)
        self.node = perceptron([width + attention, width + attention, width], norm)
        self.drop = nn.Dropout(dropout)
        self.temperature = share**0.5

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Map (M, width) and (E, width) to the same shapes."""
        heard = self.propagate(
            edge_index,
            query=self.query(nodes),
            value=self.value(nodes),
            key=self.key(edges),
            size=(len(nodes), len(nodes)),
        )
        new_edges = self.edge_updater(edge_index, nodes=nodes, edges=edges)
        return self.node(torch.cat([nodes, heard], dim=-1)), new_edges

    def message(self, query_i: Tensor, key: Tensor, value_j: Tensor) -> Tensor:
        """Weigh what the object of each edge tells its subject: (E, attention)."""
        asked = torch.cat([self._split(query_i), self._split(key)], dim=-1)
        weights = self.drop((self.weigh(asked) / self.temperature).softmax(dim=-1))
        told: Tensor = weights.flatten(1) * value_j
        return told

    def edge_update(self, nodes_i: Tensor, edges: Tensor, nodes_j: Tensor) -> Tensor:
        """Mix subject, edge and object to the new edge, (E, width)."""
        mixed: Tensor = self.edge(torch.cat([nodes_i, edges, nodes_j], dim=-1))
        return mixed

    def _split(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), self.heads, rows.shape[1] // self.heads)


class GraphTransformer(nn.Module):
    """A transformer's layer along the edges (Shi et al., "Masked Label Prediction", IJCAI 2021).

    An object attends to its subjects, by what they and the edges are; then an edge is made anew from its
    ends. Norms come first, and are of a row alone whatever the norm of the other parts.
    """

    def __init__(self, width: int, hidden: int, heads: int, dropout: float) -> None:
        """Work on nodes and edges of `width`, in `heads` heads, with `hidden` numbers between."""
        super().__init__()
        self.norm_nodes, self.norm_edges, self.norm_heard = (nn.LayerNorm(width) for _ in range(3))
        self.attend = TransformerConv(
            width, width // heads, heads, edge_dim=width, dropout=dropout, bias=False
        )
        self.node = perceptron([width, hidden, width])
        self.edge = perceptron([3 * width, hidden, width])

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Map (M, width) and (E, width) to the same shapes."""
        told = self.norm_edges(edges)
        nodes = nodes + self.attend(self.norm_nodes(nodes), edge_index, told)
        nodes = nodes + self.node(self.norm_heard(nodes))
        subject, other = nodes[edge_index[0]], nodes[edge_index[1]]
        return nodes, edges + self.edge(torch.cat([subject, told, other], dim=-1))


class Alone(nn.Module):
    """A layer without messages: each node and each edge is made anew from itself. What context is worth."""

    def __init__(self, width: int, hidden: int, norm: Norm) -> None:
        """Work on nodes and edges of `width`, with `hidden` numbers between."""
        super().__init__()
        self.node = perceptron([width, hidden, width], norm)
        self.edge = perceptron([width, hidden, width], norm)

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Map (M, width) and (E, width) to the same shapes."""
        return nodes + self.node(nodes), edges + self.edge(edges)


class Layers(nn.Module):
    """Layers of a backbone, with ReLU, and of attention dropout, between them, as published."""

    def __init__(self, options: NetworkOptions) -> None:
        """Make `options.gnn_layers` layers; UserError for widths that the heads do not divide."""
        super().__init__()
        _check_heads(options)
        self.layers = nn.ModuleList(_layer(options) for _ in range(options.gnn_layers))
        self.between: nn.Module = nn.ReLU()
        if options.backbone == "attention":
            self.between = nn.Sequential(nn.ReLU(), nn.Dropout(_DROPPED * options.dropout))
        elif options.backbone == "transformer":  # its norms come first; cutting off a residual would undo it
            self.between = nn.Identity()

    def forward(self, nodes: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Map (M, width) and (E, width) to the same shapes."""
        for place, layer in enumerate(self.layers):
            if place:
                nodes, edges = self.between(nodes), self.between(edges)
            nodes, edges = layer(nodes, edges, edge_index)
        return nodes, edges


def _layer(options: NetworkOptions) -> nn.Module:
    width, hidden, norm = options.gconv_dim, options.hidden_dim, options.norm
    dropout = _DROPPED * options.dropout
    if options.backbone == "attention":
        return FeatureAttention(width, options.attention_dim, options.heads, norm, dropout)
    if options.backbone == "transformer":
        return GraphTransformer(width, hidden, options.heads, dropout)
    if options.backbone == "mlp":
        return Alone(width, hidden, norm)
    return TripletConvolution(width, hidden, norm)


def _check_heads(options: NetworkOptions) -> None:
    widths = {"attention": ("gconv_dim", "attention_dim"), "transformer": ("gconv_dim",)}
    for name in widths.get(options.backbone, ()):
        if getattr(options, name) % options.heads:
            raise UserError(
                f"{name} is {getattr(options, name)}: the {options.backbone} backbone shares it out among"
                f" {options.heads} heads; give a multiple of that"
            )
