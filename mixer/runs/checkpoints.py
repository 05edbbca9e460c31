"""Saves and restores the checkpoints of a training: its state, and JSON to resume from."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from etils import epath

from mixer.checkpoint.damage import DamagedCheckpoint
from mixer.checkpoint.store import Store
from mixer.runs import resuming
from mixer.runs.training import Training
from mixer.training.step import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """What a run needs besides its state to resume as if it had never stopped.

    Attributes:
      step: number of updates done.
      progress: `Progress.state_dict()`.
      results: the latest value of each metric.
      lines: number of lines in metrics.jsonl.
      upstream: where the initial parameters come from; None if they are random.
      evaluation_due: whether the evaluation at this step is still to be done.
      skipped: number of examples that could not be read.
      patience: `Patience.state_dict()`.
    """

    step: int = 0
    progress: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: dict[str, float] = dataclasses.field(default_factory=dict)
    lines: int = 0
    upstream: dict[str, Any] | None = None
    evaluation_due: bool = False
    skipped: int = 0
    patience: dict[str, Any] = dataclasses.field(default_factory=dict)


_POINT_FIELDS = [field.name for field in dataclasses.fields(ResumePoint)]


class Checkpoints:
    """The checkpoints of a training in its workdir.

    Each contains the arrays of `TrainState.items`: parameters, the optimizer's state and, with
    `ema_decay`, the averages of the parameters. Its JSON contains the fields of `ResumePoint`, the
    `ModelCard` that says how to use the parameters, `data`, the fingerprints of all examples, and
    `teacher`, the origin of a distillation's.
    """

    def __init__(self, training: Training, path: epath.Path, store: Store):
        self._training, self._path, self._store = training, path, store

    def newest(self) -> tuple[TrainState, ResumePoint] | None:
        """Restores the newest intact checkpoint; None, which it says of a begun run, without one.

        Raises:
          BadInput: the examples or the teacher have changed, or it is past the last step of this
            training.
        """
        found = self._store.restore_newest(
            self._training.update.abstract_state().items(),
            print,
            self._check,
        )
        if found is None:
            if (self._path / "metrics.jsonl").exists():  # of a run that was begun here
                where = self._path / "checkpoints"
                print(f"no checkpoint is in {where}: starting again from step 0", flush=True)
            return None
        items, meta = found
        resuming.check_total(self._path, meta["step"], self._training.total)
        # An older version of this program did not write all of them.
        point = ResumePoint(**{name: meta[name] for name in _POINT_FIELDS if name in meta})
        return TrainState.of_items(items, point.step, self._training.mesh), point

    def _check(self, meta: dict[str, Any]) -> None:
        resuming.check_data(self._path, self._training, meta["data"])
        resuming.check_teacher(self._path, self._training, meta.get("teacher"))

    def save(
        self,
        state: TrainState,
        point: ResumePoint,
        metrics: dict[str, float] | None,
    ) -> None:
        """Starts to write a checkpoint; see `Store.save`.

        Args:
          metrics: of this step's evaluation, by which the best checkpoint is chosen.
        """
        training, seconds = self._training, point.progress["seconds"]
        meta = {
            "card": dataclasses.asdict(training.card),
            **{name: getattr(point, name) for name in _POINT_FIELDS},
            "data": training.examples,
            "teacher": training.teacher,
            "epochs": point.step * training.epochs / training.total,
            "device_days": seconds * training.mesh.size / 86400,
        }
        self._store.save(point.step, state.items(), meta, metrics)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk."""
        self._store.wait()

    def state(self, step: int) -> TrainState:
        """The state in the checkpoint of `step`, which must exist."""
        items = self._store.restore(step, self._training.update.abstract_state().items())
        return TrainState.of_items(items, step, self._training.mesh)

    def params(self, step: int) -> Any:
        """Only the parameters in the checkpoint of `step`."""
        abstract = {"params": self._training.update.abstract_state().params}
        return self._store.restore(step, abstract)["params"]

    def metas(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(step, its JSON) of each intact checkpoint; prints which ones are damaged."""
        for step in self._store.steps():
            try:
                yield step, self._store.meta(step)
            except DamagedCheckpoint as error:
                print(f"damaged checkpoint, skipped: {error}", flush=True)
