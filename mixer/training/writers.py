"""Where a run's numbers go: metrics.jsonl, TensorBoard event files, the terminal."""

import json
import os
import sys
import time

import jax
import tqdm
from etils import epath
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mixer.errors import Failure


class MetricsLog:
    """One JSON object a line, each with its `step`; the same numbers as TensorBoard scalars.

    Of several processes the first writes.

    Args:
      workdir: holds metrics.jsonl and the event files.
      lines: how many lines the checkpoint knows of that the run goes on from; the rest is cut.
      step: of that checkpoint, from which on TensorBoard is told to forget.
    """

    def __init__(self, workdir: epath.Path, lines: int, step: int):
        self._events = None
        self.lines = lines
        if jax.process_index():
            return
        self._path = workdir / "metrics.jsonl"
        text = self._path.read_text() if self._path.exists() else ""
        kept = "".join(text.splitlines(keepends=True)[:lines])
        self.lines = len(kept.splitlines())
        if self.lines < lines:
            print(f"{self._path} lacks {lines - self.lines} lines that the checkpoint knows of")
        if kept != text:
            beside = self._path.parent / ".metrics.jsonl.incomplete"
            beside.write_text(kept)
            beside.replace(self._path)
        self._events = EventFileWriter(str(workdir))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step + 1, session_log=start)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Appends one line and flushes it.

        Raises:
          Failure: a number that is NaN or infinite.
        """
        try:
            line = json.dumps({"step": step} | metrics, allow_nan=False) + "\n"
        except ValueError:
            raise Failure(f"a metric at step {step} is not finite: {metrics}") from None
        self.lines += 1
        if self._events is None:
            return
        if "://" in str(self._path):  # object stores have no append
            self._path.write_text((self._path.read_text() if self._path.exists() else "") + line)
        else:
            with self._path.open("a") as file:
                file.write(line)
        values = [summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in metrics.items()]
        self._event(step, summary=summary_pb2.Summary(value=values))
        self._events.flush()

    def close(self) -> None:
        """Ends the event file."""
        if self._events is not None:
            self._events.close()

    def _event(self, step: int, **content) -> None:
        self._events.add_event(event_pb2.Event(wall_time=time.time(), step=step, **content))


class Console:
    """Lines for a log; on a terminal also a live bar under them."""

    def __init__(self, total: int, start: int):
        self._bar = None
        if sys.stdout.isatty():
            self._bar = tqdm.tqdm(
                total=total, initial=start, unit="step", dynamic_ncols=True, file=sys.stdout
            )

    def line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
            return
        try:
            print(text, flush=True)
        except BrokenPipeError:
            # Ctrl-C under `| tee` ends tee as well; the run is still to be saved.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tick(self, step: int, metrics: dict[str, float]) -> None:
        """One more step; `metrics` may be empty."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if metrics:
                self._bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03 or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
