"""Writers of a run's metrics: metrics.jsonl, TensorBoard event files, the terminal."""

import contextlib
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator

import jax
import tqdm
from etils import epath
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from mixer import output, storage
from mixer.errors import Failure


class MetricsLog:
    """Writes metrics.jsonl, a JSON object with its `step` per line, and TensorBoard scalars.

    Only process 0 writes. Use it as a context manager: leaving it closes both files.

    Args:
      workdir: folder of metrics.jsonl and the event files.
      lines: how many lines metrics.jsonl had when the checkpoint that the run resumes from was
        saved. Later lines are cut off.
      step: step of that checkpoint. TensorBoard drops earlier sessions' events from there on.
      check_ours: see `storage.grow`.

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
    ):
        self.lines = lines
        self._file = self._scalars = None
        if jax.process_index():
            return
        path = workdir / "metrics.jsonl"
        kept = _whole_lines(path)[:lines]
        self.lines = len(kept)
        if self.lines < lines:
            missing = lines - self.lines
            print(f"{path} lacks {missing} lines that it had when the checkpoint was saved")
        self._file = storage.grow(path, b"".join(kept), check_ours)
        self._scalars = _Scalars(workdir, step, check_ours)
        # TensorBoard drops this step's events too, as its evaluation may be repeated.
        for line in map(json.loads, kept):
            if line.pop("step") == step:
                self._scalars.write(step, line)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind, *_) -> None:
        if self._file is None:
            return
        # If the run ends with an error, that is the one to report, not one of these.
        for file in (self._scalars, self._file):
            with contextlib.suppress(Failure) if kind else contextlib.nullcontext():
                file.close()

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
            self._scalars.write(step, metrics)

    def flush(self) -> None:
        """Returns once all lines would survive a power cut; call it before saving a checkpoint."""
        if self._file is not None:
            self._file.flush()
            self._scalars.flush()


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


class _Scalars:
    """An event file for TensorBoard. If it cannot be written, the run warns and continues without.

    Args:
      step: TensorBoard drops what earlier event files of this run hold from this step on.
    """

    def __init__(self, workdir: epath.Path, step: int, check_ours: Callable[[], None]):
        # TensorBoard finds and orders event files by names of this form.
        host = socket.gethostname()
        path = workdir / f"events.out.tfevents.{time.time():010.0f}.{host}.{os.getpid()}.0"
        self._file = None
        with self._or_warn():
            self._file = storage.grow(path, check_ours=check_ours)
        self._event(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step=step, session_log=start)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        values = [summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in metrics.items()]
        self._event(step=step, summary=summary_pb2.Summary(value=values))

    def flush(self) -> None:
        if self._file is not None:
            with self._or_warn():
                self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with self._or_warn():
                self._file.close()

    def _event(self, **content) -> None:
        if self._file is not None:
            event = event_pb2.Event(wall_time=time.time(), **content)
            with self._or_warn():
                RecordWriter(self._file).write(event.SerializeToString())

    @contextlib.contextmanager
    def _or_warn(self) -> Iterator[None]:
        try:
            yield
        except (storage.Unwritable, storage.Unreadable) as error:
            self._file = None
            print(f"warning: {error}; TensorBoard will lack the rest of this session", flush=True)


class Console:
    """Prints log lines, with a progress bar below them on a terminal.

    If nobody can read the output any more, the run continues.
    """

    def __init__(self, total: int, start: int):
        self._bar = None
        if sys.stdout.isatty():
            self._bar = tqdm.tqdm(
                total=total, initial=start, unit="step", dynamic_ncols=True, file=sys.stdout
            )

    def line(self, text: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        with output.tolerate_closed():
            if self._bar is not None:
                self._bar.write(text, file=sys.stdout)
            else:
                print(text, flush=True)

    def tick(self, step: int, metrics: dict[str, float]) -> None:
        """Moves the progress bar to `step`; `metrics` may be empty."""
        if self._bar is not None:
            with output.tolerate_closed():
                self._bar.update(step - self._bar.n)
            if metrics:
                self._bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)

    def close(self) -> None:
        """Removes the progress bar."""
        if self._bar is not None:
            with output.tolerate_closed():
                self._bar.close()


def format_duration(seconds: float) -> str:
    """Formats seconds as 1:02:03 or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
