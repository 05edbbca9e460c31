"""Recovers the states of an earlier training, from its checkpoints or by redoing its updates."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.batch import Batch
from mixer.checkpoint import folders
from mixer.checkpoint.store import Store
from mixer.hosts import software
from mixer.runs import resuming, workdir
from mixer.runs.checkpoints import Checkpoints
from mixer.runs.training import Training, build_training
from mixer.training import step


@dataclasses.dataclass(frozen=True)
class Logged:
    """A loss in metrics.jsonl: the mean over the steps `first` to `last`."""

    first: int
    last: int
    loss: float


class Past:
    """See `open_past`. Step N takes the state from N - 1 updates to N."""

    def __init__(
        self,
        training: Training,
        path: epath.Path,
        checkpoints: Checkpoints | None,
        saved: Sequence[int],
        initial: Callable[[], Any],
    ):
        self._training, self._path, self._checkpoints = training, path, checkpoints
        self._saved, self._initial = sorted(saved), initial
        self._state: step.TrainState | None = None
        self._done = 0  # updates that led to `_state`
        self._nearest: tuple[int, Any] | None = None
        self._update: Callable | None = None
        self._logged = _logged(path)

    def logged(self, number: int) -> Logged | None:
        """The logged loss whose window ends at this step."""
        return self._logged.get(number)

    def reproducibility(self) -> str:
        """Says whether the losses can be bitwise those of the training."""
        results = workdir.read_json(self._path / workdir.RESULTS)
        if results is None:
            return "with the same devices and versions, the losses are bitwise those of the run"
        now = {
            "device_kind": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "versions": software.versions(),
        }
        differ = [f"{k} {results[k]} then, {now[k]} now" for k in now if results[k] != now[k]]
        if differ:
            return f"the losses agree only up to rounding: {'; '.join(differ)}"
        return "devices and versions are those of the training"

    def updates(self, steps: Sequence[int]) -> int:
        """How many updates `exact` and `do` make for these steps, in ascending order."""
        total, done = 0, -1
        for number in steps:
            done = max(done, self._from(number - 1))
            total, done = total + number - done, number
        return total

    def nearest(self, number: int) -> tuple[Any, str]:
        """Parameters of the nearest checkpoint, before the step if possible, and which it is."""
        before = [at for at in self._saved if at < number]
        after = [at for at in self._saved if at >= number]
        if not before + after:
            self._restart(0)
            return self._state.params, "the initial parameters: there is no checkpoint"
        at = before[-1] if before else after[0]
        if self._nearest is None or self._nearest[0] != at:
            self._nearest = at, self._checkpoints.params(at)
        later = "" if before else ", which is later: no earlier one is kept"
        return self._nearest[1], f"the checkpoint of step {at:,}{later}"

    def exact(self, number: int) -> tuple[Any, str]:
        """The parameters that the step started from, recomputed, and what they are."""
        start = self._from(number - 1)
        if self._state is None or not start <= self._done <= number - 1:
            self._restart(start)
        if left := number - 1 - self._done:
            print(f"{count_text(left)} from step {self._done:,} to {number - 1:,}", flush=True)
            with self._training.reader.batches(self._done, number - 1) as batches:
                for batch in batches:
                    self._advance(batch)
        return self._state.params, "the parameters that the step started from"

    def do(self, number: int, batch: Batch) -> dict[str, float]:
        """Makes the update of the step, after `exact`; returns its metrics."""
        assert self._done == number - 1
        return {name: float(value) for name, value in self._advance(batch).items()}

    def _from(self, done: int) -> int:
        return max((at for at in self._saved if at <= done), default=0)

    def _restart(self, at: int) -> None:
        if at:
            self._state = self._checkpoints.state(at)
        else:
            self._state = self._training.update.create_state(self._initial())
        self._done = at

    def _advance(self, batch: Batch) -> dict[str, jax.Array]:
        self._update = self._update or self._training.update.ready()
        self._state, metrics = self._update(self._state, batch)
        self._done += 1
        return metrics


@contextlib.contextmanager
def open_past(config: ConfigDict, training: Training, path: epath.Path) -> Iterator[Past]:
    """Opens the states of the training with this config in the workdir `path`.

    Raises:
      BadInput: the examples are not those that it was trained on.
    """
    if folders.newest(path / "checkpoints") is None:
        print(f"{path} has no checkpoint: cannot check that the examples are the same", flush=True)
        yield Past(training, path, None, (), lambda: _initial(config, training, None))
        return
    with Store(path / "checkpoints", read_only=True) as store:
        checkpoints = Checkpoints(training, path, store)
        metas = dict(checkpoints.metas())
        for meta in metas.values():
            resuming.check_data(
                path, training, meta["data"], "set --config.runtime.data_dir to where they are now"
            )
            resuming.check_teacher(path, training, meta.get("teacher"))
        upstream = next(iter(metas.values()))["upstream"] if metas else None
        yield Past(training, path, checkpoints, metas, lambda: _initial(config, training, upstream))


def _initial(config: ConfigDict, training: Training, upstream: dict | None) -> Any:
    """The initial parameters of the training; its `init_from` must still exist."""
    if upstream is not None:
        training = build_training(config)
    params, now = training.initial()
    if upstream is not None and json.loads(json.dumps(now)) != upstream:
        raise errors.BadInput(
            f"config.init_from={config.init_from!r}, from which that training started, contains "
            f"other weights now: {now}, then {upstream}"
        )
    return params


def _logged(path: epath.Path) -> dict[int, Logged]:
    """{last step of its window: logged loss}."""
    file, found, last = path / "metrics.jsonl", {}, 0
    for text in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):  # a line cut off when the run was killed
            line = json.loads(text)
            if "images_per_second_per_device" in line:  # a line of training metrics
                if "train/loss" in line:
                    found[line["step"]] = Logged(last + 1, line["step"], line["train/loss"])
                last = line["step"]
    return found


def count_text(updates: int) -> str:
    """Such as "1 update" or "2 updates"."""
    return f"{updates:,} update{'s' * (updates != 1)}"


def compared(loss: float | None, logged: Logged | None) -> str:
    """One line that compares the loss of a step with the logged one."""
    parts = [] if loss is None else [f"loss {loss!r}"]
    if logged is None:
        return ", ".join([*parts, "no loss is logged for this step alone"])
    one = logged.first == logged.last
    what = "logged" if one else f"logged, the mean of steps {logged.first:,} to {logged.last:,}:"
    parts.append(f"{what} {logged.loss!r}")
    if one and loss is not None:
        parts.append("bitwise equal" if loss == logged.loss else "NOT equal")
    return ", ".join(parts)
