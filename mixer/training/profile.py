"""A trace of chosen steps, for TensorBoard and Perfetto."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from etils import epath

from mixer import errors, storage


def parse_steps(text: str, total: int, key: str) -> range:
    """Reads "11-20": the eleventh to the twentieth step; empty: none.

    Args:
      text: the config's.
      total: steps of the run.
      key: the config key, for the message.

    Raises:
      BadInput: another form, or steps that the run does not have.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last <= total:
        raise errors.BadInput(
            f"config.{key}={text!r}: expected the first and the last step to trace, of 1 to "
            f"{total:,}, such as '{min(11, total)}-{min(20, total)}'"
        )
    return range(first, last + 1)


@contextlib.contextmanager
def traced(
    train_step: Callable, steps: range, start: int, folder: epath.Path
) -> Iterator[Callable]:
    """`train_step`, the first process's calls number `steps` being traced into `folder`.

    The trace begins when the device has done all steps before, and ends when it has done these. A
    run that goes on from one of them, or from after them, does not trace. One that cannot write
    the trace goes on without, and warns.

    Args:
      train_step: (state, batch) -> a tree of arrays.
      start: steps done before the first call.
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
    # Else an event for every Python call: decoding images makes most of them, and is slowed down.
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
        print(f"warning: the profile is lost: {error}", flush=True)


def _copy(local: Path, folder: epath.Path) -> None:
    for file in local.rglob("*.*"):
        target = folder / file.relative_to(local)
        with storage.naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with storage.write_whole(target) as copy:
            copy.write(file.read_bytes())
