"""What a checkpoint of a training holds, written and read."""

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
class Progressed:
    """How far a training has come, beside its state: with both it goes on as if never stopped.

    Attributes:
      step: updates done.
      progress: of `Progress.state_dict`.
      results: the newest of each metric.
      lines: of metrics.jsonl.
      upstream: what the first parameters come from; None: random.
      evaluation_due: whether the evaluation at this step is still missing.
      skipped: examples that could not be read.
    """

    step: int = 0
    progress: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: dict[str, float] = dataclasses.field(default_factory=dict)
    lines: int = 0
    upstream: dict[str, Any] | None = None
    evaluation_due: bool = False
    skipped: int = 0


_PROGRESSED = [field.name for field in dataclasses.fields(Progressed)]


class Checkpoints:
    """The checkpoints of a training in its workdir.

    Each holds the arrays of `TrainState.items`: parameters, the optimizer's state and, with
    `ema_decay`, the averages of the parameters. Beside them its JSON says how far the training has
    come (`Progressed`), the `ModelCard` by which the parameters are used, and the fingerprints of
    all that is read, `data`.
    """

    def __init__(self, training: Training, path: epath.Path, store: Store):
        self._training, self._path, self._store = training, path, store

    def newest(self) -> tuple[TrainState, Progressed] | None:
        """The newest whole checkpoint; None if there is none.

        Raises:
          BadInput: its examples are not those of this training, or it is past the last step.
        """
        found = self._store.restore_newest(
            self._training.update.abstract_state().items(),
            print,
            lambda meta: resuming.check_data(self._path, self._training, meta["data"]),
        )
        if found is None:
            return None
        items, meta = found
        resuming.check_total(self._path, meta["step"], self._training.total)
        progressed = Progressed(**{name: meta[name] for name in _PROGRESSED})
        return TrainState.of_items(items, progressed.step, self._training.mesh), progressed

    def save(
        self,
        state: TrainState,
        progressed: Progressed,
        metrics: dict[str, float] | None,
    ) -> None:
        """Begins to write one; see `Store.save`.

        Args:
          metrics: of this step's evaluation, by which the best is chosen.
        """
        training, seconds = self._training, progressed.progress["seconds"]
        meta = {
            "card": dataclasses.asdict(training.card),
            **{name: getattr(progressed, name) for name in _PROGRESSED},
            "data": training.examples,
            "epochs": progressed.step * training.epochs / training.total,
            "device_days": seconds * training.mesh.size / 86400,
        }
        self._store.save(progressed.step, state.items(), meta, metrics)

    def wait(self) -> None:
        """Returns when the last one is on disk."""
        self._store.wait()

    def state(self, step: int) -> TrainState:
        """The state of a checkpoint that is there."""
        items = self._store.restore(step, self._training.update.abstract_state().items())
        return TrainState.of_items(items, step, self._training.mesh)

    def params(self, step: int) -> Any:
        """The parameters alone."""
        abstract = {"params": self._training.update.abstract_state().params}
        return self._store.restore(step, abstract)["params"]

    def metas(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(step, its JSON) of those that are whole; damaged ones are named."""
        for step in self._store.steps():
            try:
                yield step, self._store.meta(step)
            except DamagedCheckpoint as error:
                print(f"damaged checkpoint, skipped: {error}", flush=True)
