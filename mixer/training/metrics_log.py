"""A training's metrics: metrics.jsonl, which is always written, and the writers beside it."""

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from PIL import Image

from mixer import storage
from mixer.errors import Failure
from mixer.training.writers import FAILED, FINISHED, STOPPED, Session, Writers


class MetricsLog:
    """Writes metrics.jsonl, a JSON object with its `step` per line, and tells the writers.

    Only process 0 writes. Use it as a context manager: leaving it closes the file and the writers.

    Args:
      workdir: folder of metrics.jsonl.
      lines: how many lines metrics.jsonl had when the checkpoint that the run resumes from was
        saved. Later lines are cut off.
      step: step of that checkpoint.
      check_ours: see `storage.grow`.
      writers: names of registered writers.
      config: see `Session`.

    Raises:
      Unreadable: metrics.jsonl exists and cannot be read.
      Unwritable: metrics.jsonl cannot be written. The methods raise it too.
    """

    def __init__(
        self,
        workdir: epath.Path,
        lines: int,
        step: int,
        check_ours: Callable[[], None] = lambda: None,
        writers: Sequence[str] = ("tensorboard",),
        config: Mapping[str, Any] = {},
    ):
        self.lines = lines
        self._end: tuple[str, Mapping[str, float]] = STOPPED, {}
        self._file = None
        self._writers = Writers((), Session(workdir))
        if jax.process_index():
            return
        path = workdir / "metrics.jsonl"
        kept = _whole_lines(path)[:lines]
        self.lines = len(kept)
        if self.lines < lines:
            missing = lines - self.lines
            print(f"{path} lacks {missing} lines that it had when the checkpoint was saved")
        self._file = storage.grow(path, b"".join(kept), check_ours)
        session = Session(
            workdir=workdir,
            config=config,
            step=step,
            lines=[(line.pop("step"), line) for line in map(json.loads, kept)],
            check_ours=check_ours,
        )
        self._writers = Writers(writers, session)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind, *_) -> None:
        self._writers.close(*((FAILED, {}) if kind else self._end))
        if self._file is not None:
            # If the run ends with an error, that is the one to report, not one of this file.
            with contextlib.suppress(Failure) if kind else contextlib.nullcontext():
                self._file.close()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line.

        Raises:
          Failure: a metric is NaN or infinite.
        """
        try:
            line = json.dumps({"step": step} | metrics, allow_nan=False) + "\n"
        except ValueError:
            raise Failure(f"a metric at step {step} is not finite: {metrics}") from None
        self.lines += 1
        if self._file is not None:
            self._file.write(line.encode())
            self._writers.scalars(step, metrics)

    def image(self, step: int, name: str, draw: Callable[[], Image.Image]) -> None:
        """Shows a picture, see `Writers.image`; metrics.jsonl has none."""
        self._writers.image(step, name, draw)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """The run is complete, with these final metrics; otherwise leaving it is a stop."""
        self._end = FINISHED, metrics

    def flush(self) -> None:
        """Returns once all lines would survive a power cut; call it before saving a checkpoint."""
        if self._file is not None:
            self._file.flush()
            self._writers.flush()


def _whole_lines(path: epath.Path) -> list[bytes]:
    """The lines of a log, up to the first that a power cut or a broken disk has damaged."""
    with storage.naming(path, storage.Unreadable):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
    return list(itertools.takewhile(_is_whole, content.splitlines(keepends=True)))


def _is_whole(line: bytes) -> bool:
    try:
        content = json.loads(line)
    except ValueError:
        return False
    if not (isinstance(content, dict) and "step" in content and line.endswith(b"\n")):
        return False
    return all(isinstance(value, int | float) for value in content.values())
