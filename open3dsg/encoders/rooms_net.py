"""The network of the `rooms` encoder. Import it only where torch may load."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4  # input pixels a side of one output cell
MULTIPLE = 32  # height and width of an input picture are multiples of this


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut, as in He et al., CVPR 2016; `stride` 2 halves the grid."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """Take `inputs` channels to `outputs`."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class GlobalContext(nn.Module):
    """Adds to every cell what the whole picture looks like on average: which room this is."""

    def __init__(self, channels: int) -> None:
        """Work on `channels` channels."""
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        mixed: Tensor = x + self.mix(x.mean(dim=(2, 3), keepdim=True))
        return mixed


class Merge(nn.Module):
    """Brings a coarse grid to a fine one and mixes the channels of both."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        """Take `coarse` and `fine` channels to `outputs`."""
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(coarse + fine, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (n, coarse, h, w) and (n, fine, H, W) to (n, outputs, H, W)."""
        grown = functional.interpolate(coarse, size=fine.shape[2:], mode="bilinear")
        mixed: Tensor = self.mix(torch.cat([grown, fine], dim=1))
        return mixed


class RoomsNet(nn.Module):
    """A small U-Net (Ronneberger et al., MICCAI 2015): pictures to `code` channels a cell at stride 4.

    `lift` maps codes, or any average of codes, linearly into the text space; that averaging and lifting
    commute is what makes an instance of a hundred thousand pixels cheap.
    """

    def __init__(self, code: int, dimension: int, widths: tuple[int, int, int, int, int]) -> None:
        """Use `widths` channels at strides 2, 4, 8, 16 and 32; codes of `code`, text of `dimension`."""
        super().__init__()
        stem, quarter, eighth, sixteenth, deep = widths
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.quarter = nn.Sequential(Residual(stem, quarter, 2), Residual(quarter, quarter))
        self.eighth = nn.Sequential(Residual(quarter, eighth, 2), Residual(eighth, eighth))
        self.sixteenth = nn.Sequential(Residual(eighth, sixteenth, 2), Residual(sixteenth, sixteenth))
        self.deep = nn.Sequential(Residual(sixteenth, deep, 2), GlobalContext(deep))
        self.up_sixteenth = Merge(deep, sixteenth, sixteenth)
        self.up_eighth = Merge(sixteenth, eighth, eighth)
        self.refine_eighth = Residual(eighth, eighth)
        self.up_quarter = Merge(eighth, quarter, code)
        self.refine_quarter = Residual(code, code)
        self.lift = nn.Linear(code, dimension)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (n, 3, 32 a, 32 b) in [-1, 1] to codes (n, code, 8 a, 8 b)."""
        quarter = self.quarter(self.stem(pictures))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        x = self.up_sixteenth(self.deep(sixteenth), sixteenth)
        x = self.refine_eighth(self.up_eighth(x, eighth))
        codes: Tensor = self.refine_quarter(self.up_quarter(x, quarter))
        return codes
