"""What is predicted, and how: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.store.predictions import Source
    from open3dsg.training.options import Graphs


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted, and how."""

    run: str
    checkpoint: str | None = None  # best, last, or a step; None: best, and none for the teacher
    weight_2d: float | None = None  # share of the pictures; None: a half, as published
    from_2d: bool = False  # the teacher alone
    published: bool = False  # relations are weighed the other way round than nodes
    graphs: Graphs | None = None  # None: as the run was trained
    unseen: bool = False  # instances that no frame shows, too
    node_model: str | None = None  # whose words nodes are compared with; None: the run's encoder of nodes
    label: str | None = None
    # Where an encoder says how instances relate:
    beams: int | None = None
    gt_objects: bool = False  # it calls them by their annotated labels
    vocabulary: str | None = None  # or by the nearest class of this list; None: the dataset's own

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the option."""
        if self.weight_2d is not None and not 0 <= self.weight_2d <= 1:
            raise UserError(f"--weight-2d is {self.weight_2d}: give 0, points only, to 1")
        if self.from_2d:
            unused = {
                "--weight-2d": self.weight_2d,
                "--checkpoint": self.checkpoint,
                "--protocol": self.published or None,
                "--unseen": self.unseen or None,
            }
            for option, value in unused.items():
                if value is not None:
                    raise UserError(f"--from-2d asks the pictures alone: leave out {option}")
        if self.gt_objects and self.vocabulary is not None:
            raise UserError("--gt-objects calls objects by their labels: leave out --vocabulary")
        if self.label is not None and (not self.label.strip() or set(":/\0") & set(self.label)):
            raise UserError(f"--label is {self.label!r}: it must not be empty, nor hold : or /")

    @property
    def weight(self) -> float:
        """The share of the pictures of nodes."""
        if self.from_2d:
            return 1.0
        return 0.5 if self.weight_2d is None else self.weight_2d

    @property
    def source(self) -> Source:
        """Where the predictions come from."""
        if self.from_2d:
            return "teacher"
        return "fused" if self.weight > 0 or self.published else "student"

    @property
    def called(self) -> str:
        """The label: `student`, `teacher`, `fused-0.5`, unless another was given."""
        if self.label is not None:
            return self.label
        weight = f"-{self.weight:g}{'-published' if self.published else ''}"
        return self.source + (weight if self.source == "fused" else "")
