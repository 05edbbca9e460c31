"""The states that an earlier training went through: as it saved them, or by its updates again."""

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
    """See `open_past`. Step N is the one that makes N updates of N - 1."""

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
        self._done = 0  # updates, of which `_state` is
        self._nearest: tuple[int, Any] | None = None
        self._update: Callable | None = None
        self._logged = _logged(path)

    def logged(self, number: int) -> Logged | None:
        """The logged loss whose window ends with this step."""
        return self._logged.get(number)

    def as_then(self) -> str:
        """Whether the loss can be the training's own to the last bit."""
        results = workdir.read_json(self._path / workdir.RESULTS)
        if results is None:
            return "the losses are the run's own to the last bit on the same devices and versions"
        now = {
            "device_kind": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "versions": software.versions(),
        }
        differ = [f"{k} {results[k]} then, {now[k]} now" for k in now if results[k] != now[k]]
        if differ:
            return f"the losses agree to rounding only: {'; '.join(differ)}"
        return "devices and versions are the same as then"

    def updates(self, steps: Sequence[int]) -> int:
        """How many updates `exact` and `do` take for these steps, ascending."""
        total, done = 0, -1
        for number in steps:
            done = max(done, self._from(number - 1))
            total, done = total + number - done, number
        return total

    def nearest(self, number: int) -> tuple[Any, str]:
        """The parameters of the nearest checkpoint, before the step if there is one; whose."""
        before = [at for at in self._saved if at < number]
        after = [at for at in self._saved if at >= number]
        if not before + after:
            self._restart(0)
            return self._state.params, "the initial parameters: there is no checkpoint"
        at = before[-1] if before else after[0]
        if self._nearest is None or self._nearest[0] != at:
            self._nearest = at, self._checkpoints.params(at)
        later = "" if before else ", which is later: none before it is kept"
        return self._nearest[1], f"the checkpoint of step {at:,}{later}"

    def exact(self, number: int) -> tuple[Any, str]:
        """The parameters with which the step began, made again."""
        start = self._from(number - 1)
        if self._state is None or not start <= self._done <= number - 1:
            self._restart(start)
        if left := number - 1 - self._done:
            print(f"{in_words(left)} from step {self._done:,} to {number - 1:,}", flush=True)
            with self._training.reader.batches(self._done, number - 1) as batches:
                for batch in batches:
                    self._advance(batch)
        return self._state.params, "the parameters that the step began with"

    def do(self, number: int, batch: Batch) -> dict[str, float]:
        """Does the step, after `exact`; its metrics."""
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
        self._update = self._update or step.guarded(self._training.update.compile())
        self._state, metrics = self._update(self._state, batch)
        self._done += 1
        return metrics


@contextlib.contextmanager
def open_past(config: ConfigDict, training: Training, path: epath.Path) -> Iterator[Past]:
    """The past of the training of this config in the workdir `path`.

    Raises:
      BadInput: its examples are not those that it was trained on.
    """
    if folders.newest(path / "checkpoints") is None:
        print(f"{path} has no checkpoint, so what it was trained on cannot be compared", flush=True)
        yield Past(training, path, None, (), lambda: _initial(config, training, None))
        return
    with Store(path / "checkpoints", read_only=True) as store:
        checkpoints = Checkpoints(training, path, store)
        metas = dict(checkpoints.metas())
        for meta in metas.values():
            resuming.check_data(
                path, training, meta["data"], "say where they are now: --config.runtime.data_dir"
            )
        upstream = next(iter(metas.values()))["upstream"] if metas else None
        yield Past(training, path, checkpoints, metas, lambda: _initial(config, training, upstream))


def _initial(config: ConfigDict, training: Training, upstream: dict | None) -> Any:
    """The parameters that the training began with; what it started from has to be there still."""
    if upstream is not None:
        training = build_training(config)
    params, now = training.initial()
    if upstream is not None and json.loads(json.dumps(now)) != upstream:
        raise errors.BadInput(
            f"config.init_from={config.init_from!r}, from which that training started, holds other "
            f"weights now: {now}, then {upstream}"
        )
    return params


def _logged(path: epath.Path) -> dict[int, Logged]:
    """By the last step of each window."""
    file, found, last = path / "metrics.jsonl", {}, 0
    for text in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):  # a line that a kill has cut
            line = json.loads(text)
            if "images_per_second_per_device" in line:  # of training
                if "train/loss" in line:
                    found[line["step"]] = Logged(last + 1, line["step"], line["train/loss"])
                last = line["step"]
    return found


def in_words(updates: int) -> str:
    """How many updates."""
    return f"{updates:,} update{'s' * (updates != 1)}"


def compared(loss: float | None, logged: Logged | None) -> str:
    """One line: the loss of a step beside the logged one."""
    parts = [] if loss is None else [f"loss {loss!r}"]
    if logged is None:
        return ", ".join([*parts, "none is logged for this step alone"])
    one = logged.first == logged.last
    what = "logged" if one else f"logged, the mean of steps {logged.first:,} to {logged.last:,}:"
    parts.append(f"{what} {logged.loss!r}")
    if one and loss is not None:
        parts.append("the same to the last bit" if loss == logged.loss else "NOT the same")
    return ", ".join(parts)
