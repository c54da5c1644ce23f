"""How two instances relate, from their boxes and the distance between them: no weights, no picture.

The words are those of 3DSSG (Wald et al., CVPR 2020), in the long form in which Open3DSG asks for them
(`relationships_custom.txt`), but for the other side of support and containment, which they lack.
docs/relations.md has the rules, where their numbers come from, and how often they agree with annotations.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from open3dsg.encoders.support import check_options, revision_of
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.encoders.contract import Choices, PairGeometry

VERSION = 2  # raised by hand when the rules change

CLOSE = "close by"  # said in both directions

View: TypeAlias = Literal["frame", "scan"]
Say: TypeAlias = Literal["first", "all"]

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
    # which is attached to what carries it
    flat_m: float = 0.4  # what is no higher lies, if it is wider than high; else it stands
    inside_share: float = 0.95  # of the volume of what is inside
    clear_m: float = 0.3  # what hangs begins so far above the foot of what holds it, or below its underside
    above_m: float = 0.1  # what is above begins no deeper below the top of the box of what is under it
    near_m: float = 1.0  # left, right, front and behind are said of neighbours alone
    offset_m: float = 0.15  # by which their middles are apart in that direction, at least
    close_m: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError, naming it, for a number that is none, or no share."""
        for name, value in asdict(self).items():
            is_share = name.endswith("_share")
            if not (math.isfinite(value) and value >= 0 and (value <= 1 or not is_share)):
                bound = "a share of 0 to 1" if is_share else "metres, 0 or more"
                raise ValueError(f"{name} is {value:g}: give {bound}")


class Geometry:
    """Says how instances relate from where they are."""

    views: Literal["boxes"] = "boxes"

    def __init__(
        self,
        name: str = "geometry",
        text: str = "minilm",
        rules: Rules | None = None,
        view: View = "frame",
        say: Say = "first",
    ) -> None:
        """Take the name in the store, the sentence encoder of the phrases, and other numbers of the rules.

        `view`: left, right, front and behind are as in the frame that shows both best, or, of `scan`, as a
        viewer sees them who looks along the scan's +y: 3DSSG annotates them for one view a scan. `say`: of
        `first` what holds first; of `all` of neighbours that they are close by, too, where they are.
        """
        self.name = name
        self.text = text
        self._rules = rules or Rules()
        self._view = view
        self._say = say

    @classmethod
    def from_choices(cls, choices: Choices) -> Geometry:
        """Make it with the numbers of `choices.options`; UserError for one that it does not know."""
        known = {"text": str, "view": str, "say": str, **{entry.name: float for entry in fields(Rules)}}
        check_options(choices, known, takes_path=False)
        words = {"view": get_args(View), "say": get_args(Say)}
        for option, allowed in words.items():
            if choices.options.get(option, allowed[0]) not in allowed:
                raise UserError(
                    f"[encoders.{choices.name}] in the settings: {option} is {choices.options[option]!r}:"
                    f" give {' or '.join(allowed)}"
                )
        try:
            # 1 and 1.0 are the same rule, and of the same revision.
            numbers = {name: float(value) for name, value in choices.options.items() if name not in words}
            chosen = {name: value for name, value in choices.options.items() if name in words}
            return cls(choices.name, choices.text, Rules(**numbers), **chosen)
        except (ValueError, OverflowError) as error:
            raise UserError(f"[encoders.{choices.name}] in the settings: {error}") from error

    @cached_property
    def dimension(self) -> int:
        """That of the sentence encoder. Raises UserError where there is none of that name."""
        from open3dsg.encoders.registry import load_text_encoder

        return load_text_encoder(self.text).dimension

    @property
    def options(self) -> Mapping[str, Any]:
        """The numbers of the rules and their version, and what else is not as it always was."""
        words = {"view": self._view, "say": self._say}
        chosen = {name: word for name, word in words.items() if word not in ("frame", "first")}
        return {"version": VERSION, **asdict(self._rules), **chosen}

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of `options`."""
        return revision_of(self.options, [])

    def relate(self, pairs: PairGeometry) -> list[str]:
        """Return a phrase a pair, such as 'standing on', subject first; empty where nothing is to be said.

        The first of `RELATIONS` that holds in one direction and not in the other is said, in its other form
        where it is the object's; else ``close by``. Asked in the other direction, the answer is the other
        form of the same. Of `say` = ``all``: ``to the left of and close by``.
        """
        import numpy as np

        there, back = _both_ways(pairs if self._view == "frame" else _seen_along_y(pairs))
        said = np.full(len(pairs.distance_m), "", dtype=object)
        for relation in RELATIONS:
            forward, backward = (relation.holds(way, self._rules) for way in (there, back))
            free = said == ""
            said[free & forward & ~backward] = relation.phrase
            said[free & backward & ~forward] = relation.other
        close = there.distance_m <= self._rules.close_m
        if self._say == "all":
            said[close & np.isin(said, _BESIDE)] += f" and {CLOSE}"
        said[(said == "") & close] = CLOSE
        phrases: list[str] = said.tolist()
        return phrases


@dataclass(frozen=True)
class _Way:
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
        return self._shared(2)

    @cached_property
    def inside(self) -> NDArray[np.float64]:
        """Share of the first's volume that lies in the second's box, (n,)."""
        return self._shared(3)

    @cached_property
    def height(self) -> NDArray[np.float64]:
        """Of the first, (n,)."""
        return self.high[:, 2] - self.low[:, 2]

    @cached_property
    def to_height(self) -> NDArray[np.float64]:
        """Of the second, (n,)."""
        return self.to_high[:, 2] - self.to_low[:, 2]

    def _shared(self, axes: int) -> NDArray[np.float64]:
        """Share in the first `axes` dimensions; where a box has no extent in one, whether it is within."""
        import numpy as np

        low, high = np.maximum(self.low, self.to_low), np.minimum(self.high, self.to_high)
        length = (self.high - self.low)[:, :axes]
        common = np.clip((high - low)[:, :axes], 0, None)
        within = (high >= low)[:, :axes]
        share: NDArray[np.float64] = np.where(length > 0, common / np.where(length > 0, length, 1), within)
        product: NDArray[np.float64] = share.prod(axis=1)
        return product

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


def _both_ways(pairs: PairGeometry) -> tuple[_Way, _Way]:
    subject = pairs.subject_min_m, pairs.subject_max_m
    other = pairs.object_min_m, pairs.object_max_m
    rest = pairs.distance_m, pairs.T_world_camera
    return _Way(*subject, *other, *rest), _Way(*other, *subject, *rest)


def _seen_along_y(pairs: PairGeometry) -> PairGeometry:
    """Return the pairs as a camera sees them that looks along +y, level, whatever frames show."""
    import numpy as np

    along_y = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
    return replace(pairs, T_world_camera=np.broadcast_to(along_y, (len(pairs.distance_m), 4, 4)))


def _touches(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    return way.distance_m <= rules.contact_m


def _is_inside(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is enclosed, and not above the middle of the second, where seats and boards are.

    Nothing is said to be inside a tall thing: the box of a wall that runs askew holds half the room.
    """
    low = (way.offset[:, 2] >= 0) & (way.to_height < rules.tall_m)
    return _touches(way, rules) & (way.inside >= rules.inside_share) & low


def _rests(way: _Way, rules: Rules) -> NDArray[np.bool_]:
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


def _is_wall_on(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    level = (way.high - way.low)[:, :2]
    thin = level.min(axis=1) <= rules.wall_share * level.max(axis=1)
    walls: NDArray[np.bool_] = _rests(way, rules) & thin & (way.height >= rules.tall_m)
    return walls


def _lies(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    width: NDArray[np.float64] = (way.high - way.low)[:, :2].max(axis=1)
    return _rests(way, rules) & (way.height <= rules.flat_m) & (way.height < width)


def _hangs(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first, which reaches no floor, is held from above, as a lamp by the ceiling."""
    below = way.to_low[:, 2] - way.low[:, 2] >= rules.clear_m
    over = (way.over >= rules.over_share) & (way.height < rules.tall_m)
    return _touches(way, rules) & over & below & (way.offset[:, 2] > 0)


def _is_attached(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether the first is held from the side: clear of the foot of something taller that ends no lower."""
    clear = way.low[:, 2] - way.to_low[:, 2] >= rules.clear_m
    within = way.high[:, 2] <= way.to_high[:, 2] + rules.contact_m
    return _touches(way, rules) & clear & within & (way.to_height >= rules.tall_m)


def _is_above(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    return _stacked(way, rules) & (way.low[:, 2] >= way.to_high[:, 2] - rules.above_m)


def _stacked(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    """Whether one of the two is over the other; the same in both directions."""
    import numpy as np

    back = _Way(way.to_low, way.to_high, way.low, way.high, way.distance_m, way.T_world_camera)
    return np.maximum(way.over, back.over) >= rules.over_share


def _is_left(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    right, behind = way.seen
    return _beside(way, rules) & (right >= rules.offset_m) & (right >= abs(behind))


def _is_in_front(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    right, behind = way.seen
    return _beside(way, rules) & (behind >= rules.offset_m) & (behind > abs(right))


def _beside(way: _Way, rules: Rules) -> NDArray[np.bool_]:
    return (way.distance_m <= rules.near_m) & ~_stacked(way, rules)


class Relation(NamedTuple):
    """A relation of the first to the second, and what the second is to the first."""

    phrase: str
    other: str
    holds: Callable[[_Way, Rules], NDArray[np.bool_]]


# The first that holds is said: what carries or encloses before where it is, and both before how it looks.
RELATIONS = (
    Relation("attached to", "holding", _is_wall_on),
    Relation("lying on", "supporting", _lies),
    Relation("standing on", "supporting", _rests),
    Relation("attached to", "holding", _is_attached),
    Relation("hanging on", "holding", _hangs),
    Relation("inside", "containing", _is_inside),
    Relation("above", "under", _is_above),
    Relation("to the left of", "to the right of", _is_left),
    Relation("in front of", "behind", _is_in_front),
)

_BESIDE = tuple(phrase for relation in RELATIONS[-2:] for phrase in (relation.phrase, relation.other))
