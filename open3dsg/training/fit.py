"""The loop itself: batches, steps, epochs, validations, top to bottom.

What a process draws at random (dropout) follows from the seed, the place in the epoch and its rank, so that a
run which goes on from a checkpoint, in mid-epoch too, does what it would have done without the break.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from open3dsg.errors import UserError
from open3dsg.training.manifest import TRAIN, VALIDATION
from open3dsg.training.module import Student, are_finite, synchronised
from open3dsg.training.order import epoch_order
from open3dsg.training.restore import relation_of
from open3dsg.training.schedule import learning_rate
from open3dsg.training.state import FORMAT, Progress, Sums, progress_from, shape_as_json
from open3dsg.training.stream import UnitStream, make_loader
from open3dsg.training.targets import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lightning.fabric import Fabric

    from open3dsg.store.runs import StoredRun
    from open3dsg.store.unit import UnitKey
    from open3dsg.training.batch import Batch
    from open3dsg.training.manifest import Manifest
    from open3dsg.training.network.network import SceneGraphNetwork
    from open3dsg.training.options import RunOptions
    from open3dsg.training.processes import Place
    from open3dsg.training.records import Records
    from open3dsg.training.switch import StopSwitch


class _Stopped(Exception):  # noqa: N818 - no error: the run was told to stop, and has a checkpoint
    """Leaves the loops."""


@dataclass(frozen=True)
class Moment:
    """How far a run is, for people who watch it."""

    part: str  # train or validation
    epoch: int  # from 0
    epochs: int
    position: int  # units of the part that are done
    units: int
    step: int
    loss: float | None  # mean over the units of the part so far


@dataclass(frozen=True, eq=False)
class Course:
    """What is fixed of a run in this process."""

    url: str
    run: StoredRun
    options: RunOptions
    manifest: Manifest
    place: Place
    fabric: Fabric
    every_steps: int | None


class Fit:
    """Trains one run in one process, from wherever it was."""

    def __init__(
        self,
        course: Course,
        network: SceneGraphNetwork,
        state: Mapping[str, Any] | None,
        switch: StopSwitch,
        *,
        records: Records | None = None,
        watch: Callable[[Moment], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Take a network and, where the run goes on, the state of a checkpoint.

        One process has the rest: records, who watches, and what raises UserError once the units are gone.
        """
        self._course, self._switch, self._records = course, switch, records
        self._watch, self._check_units = watch, check
        self._learning = course.options.learning
        self.progress = Progress() if state is None else progress_from(state["progress"])
        self.waited_s = 0.0  # for batches
        student = Student(network, self._learning)
        if course.place.world > 1:
            student = synchronised(student)
        optimizer = torch.optim.Adam(
            student.parameters(), lr=self._learning.lr, weight_decay=self._learning.weight_decay
        )
        if state is not None:
            network.load_state_dict(state["network"])
        self._student, self._optimizer = course.fabric.setup(student, optimizer)
        if state is not None:
            self._optimizer.load_state_dict(state["optimizer"])
            course.fabric.strategy.precision.load_state_dict(state["scaler"])
        self._network = network
        self._in_step, self._batches_in_step, self._step_sums = 0, 0, Sums()
        self._step_from, self._last_step = 0, (0, 0, 0)  # its epoch, and where in it it began and ended
        self._saved_step = None if state is None else self.progress.step

    def run(self) -> tuple[str, str | None]:
        """Train until the last epoch is done, or no epoch gets better any more, or it is told to stop.

        Returns the status it ends with, and why where that was before its last epoch. Raises UserError, in
        all processes, for what a user can mend.
        """
        try:
            while self.progress.epoch < self._learning.epochs and not self._is_idle:
                self._check()
                self._train_epoch()
                self._end_epoch(self._validate())
        except _Stopped:
            return "stopped", "told to stop"
        idle = f"no better validation loss for {self._learning.patience} epochs" if self._is_idle else None
        return "finished", idle

    @property
    def _is_idle(self) -> bool:
        return 0 < self._learning.patience <= self.progress.epochs_since_best

    def _check(self) -> None:
        trouble = None
        try:
            if self._check_units is not None:
                self._check_units()
        except UserError as error:
            trouble = str(error)
        self._course.place.agree(stop=False, trouble=trouble)

    def _train_epoch(self) -> None:
        rate = learning_rate(self._learning, self.progress.epoch, self.progress.plateau)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._student.train()
        for batch in self._batches(TRAIN):
            self._learn(batch)

    def _learn(self, batch: Batch) -> None:
        """Take one batch, and after enough of them a step."""
        course, progress = self._course, self.progress
        if not self._in_step:
            self._batches_in_step = min(self._learning.accumulate, self._batches_left(batch))
            self._step_from = progress.position
        self._in_step += 1
        is_step = self._in_step == self._batches_in_step
        self._draw(batch)
        with self._held_back(not is_step), self._unshared_statistics(batch):
            loss, sums = self._losses(batch)
            course.fabric.backward(loss / self._batches_in_step)
        progress.position = batch.cursor.position
        progress.sums.add(sums)
        self._step_sums.add(sums)
        if is_step:
            self._step(batch)
        self._tell(TRAIN, progress.position, progress.sums)

    def _step(self, batch: Batch) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._last_step = self.progress.epoch, self._step_from, self.progress.position
        self.progress.step += 1
        self._note(self._step_sums, "train")
        self._in_step, self._step_sums = 0, Sums()
        every = self._course.every_steps
        if every is not None and self.progress.step % every == 0:
            self._save(None, batch)

    def _batches_left(self, batch: Batch) -> int:
        """Return how many batches the epoch has from this one on."""
        together = self._course.options.stream.batch_size * self._course.place.world
        left = len(self._course.manifest.units[TRAIN]) - batch.cursor.position
        return 1 + math.ceil(left / together)

    def _draw(self, batch: Batch) -> None:
        """Seed what is drawn at random from now on."""
        source = (self._course.options.stream.seed, batch.cursor.epoch, batch.cursor.position)
        seeds = np.random.SeedSequence((*source, self._course.place.rank))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))

    @contextmanager
    def _held_back(self, is_held: bool) -> Iterator[None]:
        """Keep gradients of this batch to the process until the step."""
        if self._course.place.world == 1:
            yield
            return
        with self._course.fabric.no_backward_sync(self._student, enabled=is_held):
            yield

    @contextmanager
    def _unshared_statistics(self, batch: Batch) -> Iterator[None]:
        """Take no statistics of a batch of which some process has nothing: they are taken all together."""
        if batch.total >= self._course.place.world:
            yield
            return
        self._student.eval()
        yield
        self._student.train()

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, Sums]:
        """Return what to descend, and the losses of the units of all processes; UserError unless finite."""
        place = self._course.place
        graph = None if batch.graph is None else batch.graph.to(self._course.fabric.device)
        loss, sums = self._student(graph, place.world / batch.total)
        mine = Sums(len(batch.keys), *sums.tolist())
        units, *of_all = place.summed(list(asdict(mine).values()))
        together = Sums(int(units), *of_all)
        if not math.isfinite(together.total):
            place.agree(stop=False, trouble=self._not_finite(batch, mine))
        return loss, together

    def _not_finite(self, batch: Batch, sums: Sums) -> str | None:
        """Say what is wrong with a loss of this process; None: it is another's that is not finite."""
        if math.isfinite(sums.total):
            return None
        # Running statistics may be spoilt by this very batch: weights, if they are, by the last step.
        return self._diverged(self._network.parameters()) or (
            f"the loss is {sums.total} after step {self.progress.step}, of the batch {_told(batch.keys)};"
            f" {self._way_on()}"
        )

    def _diverged(self, held: Iterable[torch.Tensor]) -> str | None:
        """Say which batch made numbers of the network that are not finite; None: all are."""
        if are_finite(held):
            return None
        epoch, start, stop = self._last_step
        units, seed = self._course.manifest.units[TRAIN], self._course.options.stream.seed
        learnt = _told(units[place] for place in epoch_order(len(units), seed, epoch)[start:stop])
        step = self.progress.step
        return f"weights are not finite after step {step}, of the batch {learnt}; {self._way_on()}"

    def _way_on(self) -> str:
        name, hint = self._course.run.name, "a smaller --lr, or --precision fp32, may help"
        if self._saved_step is None:
            return f"it has no checkpoint yet: train anew, {hint}"
        return (
            f"its checkpoint of step {self._saved_step} is good: `open3dsg train --checkpoint {name}:last`"
            f" starts from it, {hint}"
        )

    def _validate(self) -> Sums:
        """Return the losses over the units to validate on."""
        sums = Sums()
        self._student.eval()
        with torch.no_grad():
            for batch in self._batches(VALIDATION):
                sums.add(self._losses(batch)[1])
                self._tell(VALIDATION, batch.cursor.position, sums)
        return sums

    def _end_epoch(self, validation: Sums) -> None:
        rate = self._optimizer.param_groups[0]["lr"]
        self._note(validation, "val", {"lr": rate})
        self.progress.close_epoch(validation.means()["loss"])
        self._save(self.progress.val_loss)

    def _batches(self, part: str) -> Iterator[Batch]:
        """Yield what is left of a part, as long as all processes have theirs and none was told to stop."""
        place = self._course.place
        waiting = iter(make_loader(self._stream(part), self._course.options.stream))
        while True:
            trouble, batch, began = None, None, time.perf_counter()
            try:
                batch = next(waiting, None)
            except UserError as error:
                trouble = str(error)
            self.waited_s += time.perf_counter() - began
            stop = place.agree(stop=self._switch.is_on, trouble=trouble)
            if stop and not self._in_step:
                self._save(None, batch)
                raise _Stopped
            if batch is None:
                return
            yield batch

    def _stream(self, part: str) -> UnitStream:
        course = self._course
        cursor = {"cursor": self.progress.cursor} if part == TRAIN else {}
        return UnitStream(
            course.url,
            course.manifest.units[part],
            course.run.node_encoder,
            relation_of(course.run),
            course.options.stream,
            train=part == TRAIN,
            rank=course.place.rank,
            world=course.place.world,
            **cursor,
        )

    def _note(self, sums: Sums, part: str, more: Mapping[str, float] | None = None) -> None:
        if self._records is not None:
            figures = {f"{part}/{name}": value for name, value in sums.means().items()}
            self._records.add({**figures, **(more or {})}, self.progress)

    def _tell(self, part: str, position: int, sums: Sums) -> None:
        if self._watch is None:
            return
        progress, units = self.progress, len(self._course.manifest.units[part])
        loss = sums.means().get("loss")
        self._watch(Moment(part, progress.epoch, self._learning.epochs, position, units, progress.step, loss))

    def _save(self, val_loss: float | None, batch: Batch | None = None) -> None:
        """Keep a checkpoint. Networks, optimizers and progress are the same in all processes: one writes.

        UserError, on all, where the network came to weights that are not finite, or that give `batch` a loss
        which is not: the last checkpoint stays. None: it was validated.
        """
        self._course.place.agree(stop=False, trouble=self._diverged(self._network.state_dict().values()))
        if batch is not None:
            self._student.eval()
            with torch.no_grad():
                self._losses(batch)
            self._student.train()
        self._saved_step = self.progress.step
        if self._records is None:
            return
        run = self._course.run
        state = {
            "format": FORMAT,
            "run": run.name,
            "options": run.options["network"],
            "shape": shape_as_json(shape_of(run.node_encoder, relation_of(run))),
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._course.fabric.strategy.precision.state_dict(),
        }
        self._records.save(state, self.progress, val_loss)


def _told(units: Iterable[UnitKey]) -> str:
    return ", ".join(f"{key.scan} subgraph {key.subgraph_no}" for key in units)
