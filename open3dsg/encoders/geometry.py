"""How two instances relate, from their boxes and the distance between them: no weights, no picture.

The words are those of 3DSSG (Wald et al., CVPR 2020), in the long form in which Open3DSG asks for them
(`relationships_custom.txt`), but for the other side of support and containment, which they lack.
docs/relations.md has the rules, where their numbers come from, and how often they agree with annotations.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from open3dsg.encoders.geometry_rules import RELATIONS, Rules, Way, are_beside, may_stand
from open3dsg.encoders.support import check_options, revision_of
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.encoders.contract import Choices, PairGeometry

VERSION = 3  # raised by hand when the rules, or what is said of them, change

CLOSE = "close by"  # said in both directions

# Said of what is not in touch: where it is.
_APART = ("above", "under", "to the left of", "to the right of", "in front of", "behind")
_SHORT = {"to the left of": "left of", "to the right of": "right of"}  # in a list of several

View: TypeAlias = Literal["frame", "scan"]
Say: TypeAlias = Literal["first", "all"]


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
        `first` what holds first; of `all` what else holds of neighbours, too, and where rules cannot tell
        lying from standing, both.
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
        form of the same. Of `say` = ``all``: ``close by, left of and in front of``.
        """
        import numpy as np

        there, back = _both_ways(pairs if self._view == "frame" else _seen_along_y(pairs))
        said = np.full(len(pairs.distance_m), "", dtype=object)
        for relation in RELATIONS:
            forward, backward = (relation.holds(way, self._rules) for way in (there, back))
            free = said == ""
            said[free & forward & ~backward] = relation.phrase
            said[free & backward & ~forward] = relation.other
        if self._say == "all":
            _say_all(said, there, self._rules)
        said[(said == "") & (there.distance_m <= self._rules.close_m)] = CLOSE
        phrases: list[str] = said.tolist()
        return phrases


def _both_ways(pairs: PairGeometry) -> tuple[Way, Way]:
    subject = pairs.subject_min_m, pairs.subject_max_m
    other = pairs.object_min_m, pairs.object_max_m
    rest = pairs.distance_m, pairs.T_world_camera
    return Way(*subject, *other, *rest), Way(*other, *subject, *rest)


def _seen_along_y(pairs: PairGeometry) -> PairGeometry:
    """Return the pairs as a camera sees them that looks along +y, level, whatever frames show."""
    import numpy as np

    along_y = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
    return replace(pairs, T_world_camera=np.broadcast_to(along_y, (len(pairs.distance_m), 4, 4)))


def _say_all(said: NDArray[np.object_], way: Way, rules: Rules) -> None:
    """Put all that holds in the place of the phrases of ``first``.

    Neighbours may be apart in both directions, and close by, too; what is above another may be close by. Of
    what lies boxes may not tell whether it stands. In this order, and short, a list is embedded near its own
    words; else "left" brings "right" in before the rest (docs/relations.md has the counts).
    """
    import numpy as np

    said[(said == "lying on") & may_stand(way, rules)] = "standing or lying on"
    apart = np.isin(said, _APART)
    close = apart & (way.distance_m <= rules.close_m)
    right, behind = way.seen
    lesser, greater = np.minimum(abs(right), abs(behind)), np.maximum(abs(right), abs(behind))
    askew = are_beside(way, rules) & (lesser >= rules.offset_m) & (lesser >= rules.askew_share * greater)
    askew &= apart
    for phrase, short in _SHORT.items():
        said[(said == phrase) & close] = short
    sides = np.where(right > 0, "left of", "right of").astype(object)
    said[askew] = (sides + " and " + np.where(behind > 0, "in front of", "behind"))[askew]
    said[close & askew] = f"{CLOSE}, " + said[close & askew]
    said[close & ~askew] = f"{CLOSE} and " + said[close & ~askew]
