"""What a step says of its work: counts that add up, and the problems it met."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from open3dsg.datasets.scan import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Summary:
    """The outcome of one step on one scan. `skipped`: all of it had been done before.

    `encoder_seconds`: the time of it in which an encoder was at work; None: the step has none.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    skipped: bool = False
    encoder_seconds: float | None = None

    def and_then(self, after: Summary) -> Summary:
        """Return the outcome of this and of what was done after it on the same scan."""
        if after.skipped:
            return self
        counts = {**self.counts, **after.counts}
        return replace(after, counts=counts, problems=(*self.problems, *after.problems))


def count_problems(problems: Iterable[Problem]) -> dict[str, int]:
    """Count problems by kind, as `--json` prints them."""
    return dict(sorted(Counter(problem.kind for problem in problems).items()))


@dataclass
class Report:
    """The outcome of one step on many scans."""

    step: str
    done: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, Sequence[Problem]] = field(default_factory=dict)
    seconds: float = 0.0
    encoder_seconds: float | None = None

    def add(self, scan: str, summary: Summary) -> None:
        """Take in what a step says of one scan."""
        if summary.skipped:
            self.skipped += 1
        else:
            self.done += 1
        self.counts.update(summary.counts)
        if summary.problems:
            self.problems[scan] = summary.problems
        if summary.encoder_seconds is not None:
            self.encoder_seconds = (self.encoder_seconds or 0.0) + summary.encoder_seconds

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "step": self.step,
            "scans": {"done": self.done, "skipped": self.skipped, "failed": len(self.failures)},
            "counts": dict(sorted(self.counts.items())),
            "problems": count_problems(chain.from_iterable(self.problems.values())),
            "problem_details": {
                scan: [{"kind": p.kind, "detail": p.detail} for p in problems]
                for scan, problems in sorted(self.problems.items())
            },
            "failures": dict(sorted(self.failures.items())),
            "seconds": round(self.seconds, 3),
            **self._encoder(),
        }

    def _encoder(self) -> dict[str, float]:
        if self.encoder_seconds is None:
            return {}
        return {"encoder_seconds": round(self.encoder_seconds, 3)}
