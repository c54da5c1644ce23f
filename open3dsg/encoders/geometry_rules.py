"""The rules by which boxes tell how instances relate: their numbers, what they look at, and their order.

docs/relations.md has the rules in words, where their numbers come from, and how often they agree with
annotations.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

_LEVEL = 0.1  # of a unit vector: a camera whose view is less level than this looks straight down or up


@dataclass(frozen=True)
class Rules:
    """The numbers of the rules, each an option of ``[encoders.geometry]``; metres, or shares of 0 to 1.

    Boxes of scans are larger than things are: a floor of 3RScan is 0.46 m thick at the median, and what
    stands on it begins 0.25 m below the top of its box. So what touches is told by the closest points, and
    boxes may sink into each other.
    """

    contact_m: float = 0.1  # closest points no further apart touch
    over_share: float = 0.5  # of its footprint, within the other's: one is over or under the other
    sunk_m: float = 0.6  # what lies on a thing begins no deeper below the top of its box
    tall_m: float = 1.5  # a thing of this height, such as a wall, carries on its very top alone:
    sunk_tall_m: float = 0.2
    wall_share: float = 0.15  # as tall, and its footprint no wider than this share of its length: a wall,
    # which is attached to what carries it;
    storey_m: float = 2.2  # so is what is as high, since the box of a wall that runs askew is not thin
    leaf_share: float = 0.15  # as tall, and no thicker than this share of its height: it hangs, as doors do
    flat_m: float = 0.4  # what is no higher lies, if it is wider than high; else it stands
    flat_share: float = 0.4  # what is no lower than this share of its width may stand as well, if all is said
    inside_share: float = 0.95  # of the volume of what is inside
    clear_m: float = 0.3  # what hangs begins so far above the foot of what holds it, or below its underside
    above_m: float = 0.1  # what is above begins no deeper below the top of the box of what is under it
    near_m: float = 1.0  # left, right, front and behind are said of neighbours alone
    offset_m: float = 0.15  # by which their middles are apart in that direction, at least
    askew_share: float = 0.5  # of the greater offset, from which on the lesser is said, too, if all is said
    close_m: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError, naming it, for a number that is none, or no share."""
        for name, value in asdict(self).items():
            is_share = name.endswith("_share")
            if not (math.isfinite(value) and value >= 0 and (value <= 1 or not is_share)):
                bound = "a share of 0 to 1" if is_share else "metres, 0 or more"
                raise ValueError(f"{name} is {value:g}: give {bound}")


@dataclass(frozen=True)
class Way:
    """n pairs in one direction: the boxes of the first, `low` and `high`, and of the second; metres."""

    low: NDArray[np.float64]  # (n, 3)
    high: NDArray[np.float64]
    to_low: NDArray[np.float64]
    to_high: NDArray[np.float64]
    distance_m: NDArray[np.float64]  # (n,)
    T_world_camera: NDArray[np.float64]  # (n, 4, 4)

    @cached_property
    def over(self) -> NDArray[np.float64]:
        """Share of the first's footprint that lies over or under the second's, (n,)."""
        footprint: NDArray[np.float64] = self._shares[:, :2].prod(axis=1)
        return footprint

    @cached_property
    def inside(self) -> NDArray[np.float64]:
        """Share of the first's volume that lies in the second's box, (n,)."""
        volume: NDArray[np.float64] = self._shares.prod(axis=1)
        return volume

    @cached_property
    def height(self) -> NDArray[np.float64]:
        """Of the first, (n,)."""
        return self.high[:, 2] - self.low[:, 2]

    @cached_property
    def width(self) -> NDArray[np.float64]:
        """Longer side of the first's footprint, (n,)."""
        longer: NDArray[np.float64] = (self.high - self.low)[:, :2].max(axis=1)
        return longer

    @cached_property
    def thickness(self) -> NDArray[np.float64]:
        """Shorter side of the first's footprint, (n,)."""
        shorter: NDArray[np.float64] = (self.high - self.low)[:, :2].min(axis=1)
        return shorter

    @cached_property
    def along(self) -> NDArray[np.float64]:
        """Share of the longer side of the first's footprint that is along the second's, (n,).

        Of a square one that of the side that is so more.
        """
        import numpy as np

        level = (self.high - self.low)[:, :2]
        longer = level == self.width[:, None]
        share: NDArray[np.float64] = np.where(longer, self._shares[:, :2], 0).max(axis=1)
        return share

    @cached_property
    def to_height(self) -> NDArray[np.float64]:
        """Of the second, (n,)."""
        return self.to_high[:, 2] - self.to_low[:, 2]

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """Share of the first that is in the second, (n, 3) by dimension; without extent, whether it is."""
        import numpy as np

        low, high = np.maximum(self.low, self.to_low), np.minimum(self.high, self.to_high)
        length = self.high - self.low
        common = np.clip(high - low, 0, None)
        share: NDArray[np.float64] = np.where(
            length > 0, common / np.where(length > 0, length, 1), high >= low
        )
        return share

    @cached_property
    def offset(self) -> NDArray[np.float64]:
        """From the middle of the first to that of the second, (n, 3)."""
        return (self.to_low + self.to_high - self.low - self.high) / 2

    @cached_property
    def seen(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far the second is to the viewer's right of the first, and how far behind it; NaN: no viewer.

        Both (n,), level with the floor, whichever side of the picture is up. A camera that looks straight
        down or up, within 6 degrees, has no left and right.
        """
        import numpy as np

        ahead = self.T_world_camera[:, :2, 2]
        length = np.hypot(ahead[:, 0], ahead[:, 1])
        x, y = (ahead / np.where(length > _LEVEL, length, np.nan)[:, None]).T
        return y * self.offset[:, 0] - x * self.offset[:, 1], x * self.offset[:, 0] + y * self.offset[:, 1]


def _touches(way: Way, rules: Rules) -> NDArray[np.bool_]:
    return way.distance_m <= rules.contact_m


def _is_inside(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is enclosed, and not above the middle of the second, where seats and boards are.

    Nothing is said to be inside a tall thing: the box of a wall that runs askew holds half the room.
    """
    low = (way.offset[:, 2] >= 0) & (way.to_height < rules.tall_m)
    return _touches(way, rules) & (way.inside >= rules.inside_share) & low


def _rests(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is carried from below: over the second, higher, and not sunk into it too deep.

    Scans lack points under what stands there: it touches, too, where the top of one box is the foot of the
    other.
    """
    import numpy as np

    tall = way.to_height >= rules.tall_m
    sunk = way.to_high[:, 2] - way.low[:, 2] <= np.where(tall, rules.sunk_tall_m, rules.sunk_m)
    higher = (way.offset[:, 2] < 0) & (way.low[:, 2] >= way.to_low[:, 2])
    meets = _touches(way, rules) | (abs(way.low[:, 2] - way.to_high[:, 2]) <= rules.contact_m)
    return meets & (way.over >= rules.over_share) & sunk & higher


def _is_wall_on(way: Way, rules: Rules) -> NDArray[np.bool_]:
    thin = way.thickness <= rules.wall_share * way.width
    wall = (thin & (way.height >= rules.tall_m)) | (way.height >= rules.storey_m)
    walls: NDArray[np.bool_] = _rests(way, rules) & wall
    return walls


def _lies(way: Way, rules: Rules) -> NDArray[np.bool_]:
    return _rests(way, rules) & (way.height <= rules.flat_m) & (way.height < way.width)


def may_stand(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is not so flat that it could only lie, (n,): a pillow and a pot are alike in that."""
    return way.height >= rules.flat_share * way.width


def _hangs(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first, which reaches no floor, is held from above, as a lamp by the ceiling.

    It is no wall: it is less tall, or a strip, as a curtain is.
    """
    below = way.to_low[:, 2] - way.low[:, 2] >= rules.clear_m
    strip = _is_leaf(way, rules) & (way.width < way.height)
    over = (way.over >= rules.over_share) & ((way.height < rules.tall_m) | strip)
    return _touches(way, rules) & over & below & (way.offset[:, 2] > 0)


def _is_attached(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is held from the side, clear of the foot of something tall.

    By its broad side, and ending no higher; what touches by an end is beside it, as a window is beside a
    curtain. What begins near the top is held by that edge, and may be larger, as a ceiling on walls.
    """
    clear = way.low[:, 2] - way.to_low[:, 2] >= rules.clear_m
    edge = way.to_high[:, 2] - way.low[:, 2] <= rules.sunk_tall_m
    held = edge | _is_backed(way, rules)
    return _touches(way, rules) & clear & held & (way.to_height >= rules.tall_m)


def _is_hung(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is held from the side though it may reach the floor, as doors and curtains do."""
    tall = (way.height >= rules.tall_m) & (way.to_height >= rules.tall_m)
    wider = (way.to_high - way.to_low)[:, :2].max(axis=1) > way.width
    hung: NDArray[np.bool_] = _touches(way, rules) & _is_leaf(way, rules) & tall & wider
    return hung & _is_backed(way, rules)


def _is_leaf(way: Way, rules: Rules) -> NDArray[np.bool_]:
    leaves: NDArray[np.bool_] = way.thickness <= rules.leaf_share * way.height
    return leaves


def _is_backed(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the broad side of the first is along the second, and ends no higher."""
    within = way.high[:, 2] <= way.to_high[:, 2] + rules.contact_m
    backed: NDArray[np.bool_] = within & (way.along >= rules.over_share)
    return backed


def _is_above(way: Way, rules: Rules) -> NDArray[np.bool_]:
    return _stacked(way, rules) & (way.low[:, 2] >= way.to_high[:, 2] - rules.above_m)


def _stacked(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether one of the two is over the other; the same in both directions."""
    import numpy as np

    back = Way(way.to_low, way.to_high, way.low, way.high, way.distance_m, way.T_world_camera)
    return np.maximum(way.over, back.over) >= rules.over_share


def _is_left(way: Way, rules: Rules) -> NDArray[np.bool_]:
    right, behind = way.seen
    return are_beside(way, rules) & (right >= rules.offset_m) & (right >= abs(behind))


def _is_in_front(way: Way, rules: Rules) -> NDArray[np.bool_]:
    right, behind = way.seen
    return are_beside(way, rules) & (behind >= rules.offset_m) & (behind > abs(right))


def are_beside(way: Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the two are neighbours of which left, right, front and behind are said, (n,)."""
    return (way.distance_m <= rules.near_m) & ~_stacked(way, rules)


class Relation(NamedTuple):
    """A relation of the first to the second, and what the second is to the first."""

    phrase: str
    other: str
    holds: Callable[[Way, Rules], NDArray[np.bool_]]


# The first that holds is said: what carries or encloses before where it is, and both before how it looks.
RELATIONS = (
    Relation("attached to", "holding", _is_wall_on),
    Relation("lying on", "supporting", _lies),
    Relation("standing on", "supporting", _rests),
    Relation("hanging on", "holding", _hangs),
    Relation("attached to", "holding", _is_attached),
    Relation("hanging on", "holding", _is_hung),
    Relation("inside", "containing", _is_inside),
    Relation("above", "under", _is_above),
    Relation("to the left of", "to the right of", _is_left),
    Relation("in front of", "behind", _is_in_front),
)
