"""Profiler traces of chosen steps (config.runtime.profile), for TensorBoard and Perfetto."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from etils import epath

from mixer import errors, storage


def parse_steps(text: str, total: int, key: str) -> range:
    """Reads "11-20" as steps 11 to 20, both included, and "" as no steps.

    Args:
      text: value of the config key.
      total: number of steps of the run.
      key: config key to name in an error.

    Raises:
      BadInput: `text` has another form, or names steps that the run does not have.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last <= total:
        raise errors.BadInput(
            f"config.{key}={text!r}: expected the first and the last step to trace, within 1 to "
            f"{total:,}, such as '{min(11, total)}-{min(20, total)}'"
        )
    return range(first, last + 1)


@contextlib.contextmanager
def traced(
    train_step: Callable, steps: range, start: int, folder: epath.Path
) -> Iterator[Callable]:
    """Yields `train_step`, wrapped so that process 0 writes a trace of `steps` to `folder`.

    The trace begins once the devices have finished the steps before, and ends once they have
    finished these. A run that resumes within or after `steps` writes no trace. If the trace cannot
    be written, the run prints a warning and continues.

    Args:
      train_step: (state, batch) -> tree of arrays.
      start: number of steps done before the first call.
      folder: may be remote.
    """
    if not steps or jax.process_index():
        yield train_step
        return
    step = start
    with contextlib.ExitStack() as trace:

        def call(state, batch):
            nonlocal step
            step += 1
            if step == steps[0]:
                jax.block_until_ready(state)
                trace.enter_context(_trace(folder))
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                result = train_step(state, batch)
            if step == steps[-1]:
                jax.block_until_ready(result)
                trace.close()
            return result

        yield call


@contextlib.contextmanager
def _trace(folder: epath.Path) -> Iterator[None]:
    options = jax.profiler.ProfileOptions()
    # Otherwise every Python call is an event: most come from decoding images, which they slow down.
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as local:
        jax.profiler.start_trace(local, create_perfetto_trace=True, profiler_options=options)
        try:
            yield
        finally:
            with _or_warn():
                jax.profiler.stop_trace()
        with _or_warn():
            _copy(Path(local), folder)


@contextlib.contextmanager
def _or_warn() -> Iterator[None]:
    try:
        yield
    except (OSError, jax.errors.JaxRuntimeError) as error:
        print(f"warning: the profile could not be written: {error}", flush=True)


def _copy(local: Path, folder: epath.Path) -> None:
    for file in local.rglob("*.*"):
        target = folder / file.relative_to(local)
        with storage.naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with storage.write_whole(target) as copy:
            copy.write(file.read_bytes())
