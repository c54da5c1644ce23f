"""When an instance counts as seen: numbers alone, so that who only names them loads no compiled loops."""

from __future__ import annotations

from dataclasses import dataclass

from open3dsg.errors import UserError


@dataclass(frozen=True)
class VisibilityThresholds:
    """When a point is visible, and when an instance is kept in a frame. Every ``>`` is strict.

    A point is visible where ``abs(depth - z) <= depth_tolerance * depth`` and its pixel is at least
    `border` pixels away from the edge of the picture. An instance is kept with more than `min_points`
    visible points, and more than `min_ratio` of its points or more than `enough_points` of them visible.
    """

    min_points: int = 12
    min_ratio: float = 0.3
    enough_points: int = 80
    depth_tolerance: float = 0.2
    border: int = 0

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming the option as the command line spells it."""
        for option, count in (
            ("--min-points", self.min_points),
            ("--enough-points", self.enough_points),
            ("--border", self.border),
        ):
            if count < 0:
                raise UserError(f"{option} is {count}: give 0 or more")
        for option, share in (("--min-ratio", self.min_ratio), ("--depth-tolerance", self.depth_tolerance)):
            if not 0 <= share <= 1:
                raise UserError(f"{option} is {share}: give a number from 0 to 1")
