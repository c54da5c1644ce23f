"""The published networks in the names and layouts of their files, as plainly as it can be said.

Parts are nested modules whose parameters bear the published names, so that `state_dict` is what lies in the
files; `forward` is a plain formulation for the tests to compare with. Widths are given, so as to be small.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Widths = tuple[int, int, int]


def fill_with_noise(module: nn.Module) -> None:
    """Give every number of a state dict a random value, running statistics too, as training would."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_(0, 0.3)


class TransformNet(nn.Module):
    def __init__(self, channels: int, size: int, widths: Widths) -> None:
        super().__init__()
        a, b, c = widths
        self.size = size
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(channels, a, 1), nn.Conv1d(a, b, 1), nn.Conv1d(b, c, 1)
        self.fc1, self.fc2 = nn.Linear(c, c // 2), nn.Linear(c // 2, c // 4)
        self.fc3 = nn.Linear(c // 4, size * size)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm1d(width) for width in widths)
        self.bn4, self.bn5 = nn.BatchNorm1d(c // 2), nn.BatchNorm1d(c // 4)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = torch.relu(norm(convolution(x)))
        x = x.amax(dim=2)
        x = torch.relu(self.bn4(self.fc1(x)))
        x = torch.relu(self.bn5(self.fc2(x)))
        turned: Tensor = self.fc3(x).view(-1, self.size, self.size)
        return turned + torch.eye(self.size)


class PointNet(nn.Module):
    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        a, b, c = widths
        self.stn = TransformNet(channels, 3, widths)
        self.fstn = TransformNet(a, a, widths)
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(channels, a, 1), nn.Conv1d(a, b, 1), nn.Conv1d(b, c, 1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm1d(width) for width in widths)

    def forward(self, points: Tensor) -> Tensor:
        x = points.transpose(1, 2)
        turned = points[..., :3].bmm(self.stn(x)).transpose(1, 2)
        x = torch.relu(self.bn1(self.conv1(torch.cat([turned, x[:, 3:]], dim=1))))
        x = x.transpose(1, 2).bmm(self.fstn(x)).transpose(1, 2)
        x = torch.relu(self.bn2(self.conv2(x)))
        found: Tensor = self.bn3(self.conv3(x)).amax(dim=2)
        return found


class SetAbstraction(nn.Module):
    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        self.mlp_convs, self.mlp_bns = nn.ModuleList(), nn.ModuleList()
        for outputs in widths:
            self.mlp_convs.append(nn.Conv2d(channels, outputs, 1))
            self.mlp_bns.append(nn.BatchNorm2d(outputs))
            channels = outputs

    def forward(self, grouped: Tensor) -> Tensor:
        x = grouped.permute(0, 3, 2, 1)
        for convolution, norm in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = torch.relu(norm(convolution(x)))
        return x.amax(dim=2).transpose(1, 2)


class PointNet2(nn.Module):
    """Of clouds in which all points are centres of both levels; that is of at most 32 points."""

    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        a, b, c = widths
        self.sa1 = SetAbstraction(channels, (a, a, b))
        self.sa2 = SetAbstraction(3 + b, (b, b, 2 * b))
        self.sa3 = SetAbstraction(3 + 2 * b, (2 * b, c // 2, c))
        self.fc1, self.bn1 = nn.Linear(c, c // 2), nn.BatchNorm1d(c // 2)
        self.fc2, self.bn2 = nn.Linear(c // 2, c // 4), nn.BatchNorm1d(c // 4)
        self.fc3 = nn.Linear(c // 4, 2)  # the classifier, which is not used

    def forward(self, points: Tensor) -> Tensor:
        found = []
        for cloud in points:
            xyz, features = cloud[:, :3], cloud[:, 3:]
            for level, radius in ((self.sa1, 0.2), (self.sa2, 0.4)):
                features = torch.cat(
                    [self._around(level, xyz, features, at, radius) for at in range(len(xyz))]
                )
            x = self.sa3(torch.cat([xyz, features], dim=1)[None, None])[0]
            x = torch.relu(self.bn1(self.fc1(x)))
            found.append(torch.relu(self.bn2(self.fc2(x))))
        return torch.cat(found)

    def _around(self, level: nn.Module, xyz: Tensor, features: Tensor, at: int, radius: float) -> Tensor:
        near = ((xyz - xyz[at]) ** 2).sum(dim=1) <= radius**2
        grouped = torch.cat([xyz[near] - xyz[at], features[near]], dim=1)
        described: Tensor = level(grouped[None, None])[0]
        return described


class Triplet(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.sizes = [hidden, width, hidden]
        both = 2 * hidden + width
        self.nn1 = nn.Sequential(
            nn.Linear(3 * width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, both), nn.BatchNorm1d(both), nn.ReLU(),
        )  # fmt: skip
        self.nn2 = nn.Sequential(
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, nodes: Tensor, edges: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        told: dict[int, list[Tensor]] = {}
        new = []
        for edge, (subject, other) in zip(edges, ends.T.tolist(), strict=True):
            made = self.nn1(torch.cat([nodes[other], edge, nodes[subject]])[None])[0]
            of_object, new_edge, of_subject = made.split(self.sizes)
            told.setdefault(other, []).append(of_object + of_subject)
            new.append(new_edge)
        heard = torch.stack([torch.stack(told[node]).amax(dim=0) for node in range(len(nodes))])
        return nodes + self.nn2(heard), torch.stack(new)


class Blip(nn.Module):
    """A layer of the projector, by torch's own attention."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads, self.hidden = heads, hidden
        self.self_attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width), "projection": nn.Linear(width, width)}
        )
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        plain = nn.TransformerEncoderLayer(
            width, self.heads, self.hidden, 0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        names = {
            "self_attn.in_proj_": self.self_attn["qkv"],
            "self_attn.out_proj.": self.self_attn["projection"],
            "linear1.": self.mlp["fc1"],
            "linear2.": self.mlp["fc2"],
            "norm1.": self.layer_norm1,
            "norm2.": self.layer_norm2,
        }
        state = {
            name + kind: getattr(part, kind) for name, part in names.items() for kind in ("weight", "bias")
        }
        plain.load_state_dict(state)
        done: Tensor = plain(x)
        return done


class Open3dsg(nn.Module):
    """The network of the published checkpoints: `model.*` of their state dict."""

    def __init__(
        self,
        channels: int,
        widths: Widths,
        adapter: int,
        width: int,
        hidden: int,
        projector: int,
        outputs: tuple[int, int],
        heads: int = 1,
        blip_hidden: int = 0,
    ) -> None:
        super().__init__()
        self.objPointNet, self.relPointNet = PointNet(channels, widths), PointNet(channels + 1, widths)
        self.bbox_emb, self.angle_emb = nn.Linear(6, 32), nn.Linear(1, 32)
        self.center_obj_emb, self.dist_pred_emb = nn.Linear(3, 64), nn.Linear(3, 64)
        self.pointnet_adapter = nn.Sequential(
            nn.Linear(widths[2] + 64, adapter), nn.ReLU(), nn.Linear(adapter, width), nn.ReLU()
        )
        self.gconv_net = nn.Module()
        self.layers = [Triplet(width, hidden) for _ in range(3)]
        self.gconv_net.gconvs = nn.ModuleList(self.layers)
        self.obj_projector, self.rel_projector = (
            nn.Sequential(
                nn.Linear(width, projector), nn.ReLU(),
                nn.Linear(projector, projector), nn.ReLU(),
                nn.Linear(projector, output),
            )
            for output in outputs
        )  # fmt: skip
        self.spread = [Blip(outputs[1], blip_hidden, heads) for _ in range(2)] if blip_hidden else []
        if self.spread:
            self.blip_layernorm = nn.LayerNorm(outputs[1], eps=1e-6)
            self.blip_projector = nn.Module()
            self.blip_projector.layers = nn.ModuleList(self.spread)

    def forward(
        self, clouds: Tensor, boxes: Tensor, pairs: Tensor, offsets: Tensor, ends: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        box = torch.cat([self.bbox_emb(boxes[:, :6]), self.angle_emb(boxes[:, 6:])], dim=1)
        nodes = self.pointnet_adapter(torch.cat([self.objPointNet(clouds), box], dim=1))
        edges = self.pointnet_adapter(
            torch.cat([self.relPointNet(pairs), self.dist_pred_emb(offsets)], dim=1)
        )
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, ends)
            if layer is not self.layers[-1]:
                nodes, edges = torch.relu(nodes), torch.relu(edges)
        relations = self.rel_projector(edges)
        if self.spread:
            relations = relations[:, None] + positions
            for mixed in self.spread:
                relations = mixed(relations)
            relations = self.blip_layernorm(relations)
        return self.obj_projector(nodes), relations
