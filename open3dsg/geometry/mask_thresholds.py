"""How masks of frames are merged into instances: numbers alone, so that who names them loads no scipy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from open3dsg.errors import UserError


@dataclass(frozen=True)
class MergeThresholds:
    """The numbers of `mask_lifting`, `mask_merging` and `mask_instances`.

    A point belongs to the pixel it falls on where the depth there is its own to `depth_tolerance_m`; a mask
    has `min_mask_points` points at least. A mask is visible in a frame whose masks hold the share `visible`
    of it; it is contained in one of them that holds more than the share `contained` of that, and else is
    split. A mask split in more than the share `undersegmented` of the frames it is visible in covers several
    things, and is left out. Clusters are joined where the share `consensus` of the frames that see both say
    so. A point is of a cluster that holds it in more than the share `detected` of the frames that see both;
    of two clusters that share more than `overlap` of the smaller one, that one goes. An instance has
    `min_masks` masks and `min_points` points at least. Its parts that lie `split_distance_m` apart are
    instances of their own; points that no frame sees follow those of their surface up to `fill_distance_m`
    away. Both are off with 0.
    """

    depth_tolerance_m: float = 0.05
    min_mask_points: int = 25
    visible: float = 0.3
    contained: float = 0.8
    undersegmented: float = 0.3
    consensus: float = 0.9
    detected: float = 0.5
    overlap: float = 0.8
    min_masks: int = 2
    min_points: int = 25
    split_distance_m: float = 0.2
    fill_distance_m: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming the option as the command line spells it."""
        for name in ("visible", "contained", "undersegmented", "consensus", "detected", "overlap"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UserError(f"--{name} is {share}: give a number from 0 to 1")
            if share == 1 and name in ("contained", "detected"):
                raise UserError(f"--{name} is {share}: no share is more than that; give less than 1")
        for name in ("min_mask_points", "min_masks", "min_points"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give 1 or more")
        for option, length_m in (
            ("--depth-tolerance", self.depth_tolerance_m),
            ("--split-distance", self.split_distance_m),
            ("--fill-distance", self.fill_distance_m),
        ):
            if not (math.isfinite(length_m) and length_m >= 0):
                raise UserError(f"{option} is {length_m}: give metres, 0 or more")
