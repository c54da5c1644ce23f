"""From what the graph says of a node or an edge to the space of the pictures' features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from open3dsg.training.network.norm import make_norm

if TYPE_CHECKING:
    from open3dsg.training.options import Norm

EDGES_AT_ONCE = 16  # of the projector onto tokens outside training: 100 MB of the widest layer, as published

_HEADS = 16
_WIDER = 48 / 11  # InstructBLIP's 6144 hidden numbers for 1408
_EPSILON = 1e-6
_DROPPED = 0.3  # by the head of classes, in training, as published


class TokenLayer(nn.Module):
    """A layer as of InstructBLIP's vision transformer (Dai et al., NeurIPS 2023): norms come first."""

    def __init__(self, width: int) -> None:
        """Work on tokens of `width` numbers; 1408 have 16 heads and 6144 hidden numbers."""
        super().__init__()
        hidden = round(width * _WIDER)
        self.heads = math.gcd(width, _HEADS)
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        nn.init.zeros_(self.qkv.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, T, width) to the same shape."""
        n, count, width = tokens.shape
        split = self.qkv(self.norm1(tokens)).view(n, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(heard.transpose(1, 2).reshape(n, count, width))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class TokenProjector(nn.Module):
    """Spreads one vector an edge over the places of the teacher's tokens, and works it out."""

    positions: Tensor

    def __init__(self, width: int, tokens: int, layers: int, positions: Tensor | None = None) -> None:
        """Make tokens, `tokens` of `width` numbers; `positions`, (T, width), are kept, else learnt.

        Layers begin as torch makes them: the published range of 1e-10 is that of a method that is never
        called there. Raises ValueError for positions of another shape.
        """
        super().__init__()
        if positions is None:
            self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
        elif tuple(positions.shape) != (tokens, width):
            raise ValueError(f"positions of shape {tuple(positions.shape)}, not ({tokens}, {width})")
        else:
            self.register_buffer("positions", positions.detach().clone().float())
        self.layers = nn.Sequential(*(TokenLayer(width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)

    def forward(self, edges: Tensor) -> Tensor:
        """Map (n, width) to (n, T, width)."""
        tokens: Tensor = self.norm(self.layers(edges[:, None] + self.positions))
        return tokens


class ClassHead(nn.Module):
    """Scores of predicates: the supervised head of 3DSSG (Wald et al., CVPR 2020), of logits."""

    def __init__(self, width: int, hidden: int, classes: int, norm: Norm, *, dropout: float = 1.0) -> None:
        """Take edges of `width` numbers over `hidden` and half as many to `classes` logits.

        `dropout` is a share of the published one.
        """
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.norm1 = make_norm(norm, hidden)
        self.fc2 = nn.Linear(hidden, hidden // 2)
        self.drop = nn.Dropout(_DROPPED * dropout)
        self.norm2 = make_norm(norm, hidden // 2)
        self.fc3 = nn.Linear(hidden // 2, classes)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, edges: Tensor) -> Tensor:
        """Map (n, width) to (n, classes)."""
        x = torch.relu(self.norm1(self.fc1(edges)))
        x = torch.relu(self.norm2(self.drop(self.fc2(x))))
        logits: Tensor = self.fc3(x)
        return logits
