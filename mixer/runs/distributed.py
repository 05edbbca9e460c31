"""Several processes as one run: how they find each other, and how they end when one is lost.

JAX's runtime ends a process whose peer is lost by abort(), from a thread of its own, while Python
may wait for ever in a collective operation. So the last line is said from a handler of SIGABRT.
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import jax
from etils import epath
from jax._src.distributed import global_state  # JAX shows neither ids nor key-value store elsewhere

from mixer import errors
from mixer.runs import devices
from mixer.training.signals import StopSignal, StopTogether

# Runs that several processes can do together.
TOGETHER = ("train", "sweep", "vtab", "evaluate", "fewshot", "doctor")
# Seconds that the processes wait for each other at the start, and at the end.
_MEET, _PART = 300, 60
# Seconds without a sign of life after which a process counts as lost: long enough for a network's
# hiccup, and short beside what a restart costs.
_HEARTBEAT = 30
# What Orbax writes last into a checkpoint in a store.
_COMMITTED = "commit_success.txt"
# Seconds in which processes that fail alike can all say so.
_FAIL_ALIKE = 5
_BETWEEN_PROCESSES = re.compile(
    r"gloo|nccl|rccl|mpi|coordination|heartbeat|barrier|socket|connection|peer|"
    r"UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED",
    re.IGNORECASE,
)


def count() -> int:
    """How many processes the run has."""
    return global_state.num_processes


def index() -> int:
    """Which of them this is, from 0: the one that writes and prints."""
    return global_state.process_id


def name() -> str:
    """Such as "process 1 of 4", for messages."""
    return f"process {index()} of {count()}"


def start(coordinator: str | None, processes: int | None, process: int | None, run: str) -> None:
    """Joins the other processes, if there are any; before JAX is used for anything.

    Without arguments SLURM's tasks and a TPU pod's hosts are found by JAX itself.

    Args:
      coordinator: HOST:PORT at which process 0 listens.
      processes: how many there are; with 1 there is nothing to join.
      process: which this is, from 0.
      run: `config.run`.

    Raises:
      BadInput: flags that do not go together, or a port that cannot be listened at.
    """
    given = {"coordinator": coordinator, "num_processes": processes, "process_id": process}
    if None not in given.values():
        _check(coordinator, processes, process)
        if processes > 1:
            _join(run, coordinator, processes, process, cluster_detection_method="deactivate")
    elif any(value is not None for value in given.values()):
        missing = ", ".join(f"--{key}" for key, value in given.items() if value is None)
        raise errors.BadInput(
            f"{missing} is missing: --coordinator=HOST:PORT, --num_processes and --process_id go "
            f"together"
        )
    elif _in_slurm_step() or _on_tpu():
        _join(run)


def _check(coordinator: str, processes: int, process: int) -> None:
    if not re.fullmatch(r".+:\d+", coordinator):
        raise errors.BadInput(
            f"--coordinator={coordinator}: expected HOST:PORT of process 0, such as 10.0.0.1:8476"
        )
    if not 0 <= process < processes:
        raise errors.BadInput(
            f"--process_id={process}: expected 0 to {processes - 1}, with "
            f"--num_processes={processes}"
        )


def _in_slurm_step() -> bool:
    # Within srun; a batch script itself is one process, whatever the number of its tasks.
    return "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1


def _on_tpu() -> bool:
    if os.environ.get("JAX_PLATFORMS", "tpu").partition(",")[0] != "tpu":
        return False
    return devices.accelerator() == "TPU"


def _join(run: str, coordinator=None, processes=None, process=None, **options) -> None:
    _last.install()
    _last.words = lambda: (
        f"{name()}: not all processes have met at {_where()} within {_MEET} s: start them all with "
        f"the same flags, and see that they can reach it"
    )
    # Otherwise SIGTERM keeps its usual meaning: these can stop anywhere.
    jax.config.update("jax_enable_preemption_service", run in ("train", "sweep", "vtab"))
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=_MEET,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_PART,
            **options,
        )
    except (RuntimeError, ValueError) as error:
        if coordinator is None and isinstance(error, ValueError):
            _last.withdraw()
            return  # JAX found nothing to join: a single TPU host
        line = str(error).strip().splitlines()[0]
        raise errors.BadInput(
            f"{name()} cannot begin at {_where()}: {line}. Process 0 has to run on that host, and "
            f"the port has to be free"
        ) from None
    if count() == 1:
        _last.withdraw()
        return
    if run not in TOGETHER:
        raise errors.BadInput(
            f"config.run={run} is for one process, not for {count()}: {', '.join(TOGETHER)} can "
            f"be done together"
        )
    _last.words = _lost
    if index():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # one console is enough


def _where() -> str:
    # JAX sets it, and who this is, before it connects.
    return global_state.coordinator_address or "the coordinator that was looked for"


class _LastWords:
    """What is to be said when the runtime ends this process."""

    def __init__(self):
        self.words: Callable[[], str] = str
        self.checkpoints: epath.Path | None = None
        self._said = threading.Lock()

    def install(self) -> None:
        # abort() raises SIGABRT in the thread that calls it. Python's own handlers would only run
        # later, in the main thread, and there is no later.
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._handler = kind(lambda _: self.leave(self.words()))
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, kind), ctypes.c_void_p
        libc.signal(signal.SIGABRT, self._handler)

    def withdraw(self) -> None:
        """Where there is no other process, abort() has another reason."""
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def leave(self, words: str) -> None:
        """Says it and exits at once: JAX's own way out waits for those that are lost."""
        if not self._said.acquire(blocking=False):
            time.sleep(_PART)  # another thread is at it
        sys.stdout.flush()
        os.write(2, f"error: {words}\n".encode())
        os._exit(1)


_last = _LastWords()


def _lost() -> str:
    return (
        f"{name()} has lost another one, whose own output may say why. {_last_checkpoint()}; "
        f"the same command, for all processes, goes on from there"
    )


def _last_checkpoint() -> str:
    if _last.checkpoints is None:
        return "Nothing was saved yet"
    with contextlib.suppress(Exception):
        folders = [p for p in _last.checkpoints.iterdir() if p.name.isdigit()]
        if "://" in str(_last.checkpoints):  # a store's folder is there before all of it is
            folders = [p for p in folders if (p / _COMMITTED).exists()]
        if steps := [int(p.name) for p in folders]:
            return f"The last checkpoint is {_last.checkpoints / str(max(steps))}"
        return f"No checkpoint is in {_last.checkpoints} yet"
    return f"The checkpoints are in {_last.checkpoints}"


@contextlib.contextmanager
def watch(checkpoints: epath.Path) -> Iterator[None]:
    """Where a run saves; what goes wrong between the processes ends this one at once, in a line."""
    _last.checkpoints = checkpoints
    try:
        yield
    except (errors.BadInput, errors.Failure):
        raise
    except Exception as error:
        disk = isinstance(error, OSError) and not isinstance(error, TimeoutError)
        if count() > 1 and not disk:
            end(error)
        raise


def end(error: Exception) -> None:
    """Ends one of several processes by an error that it does not expect."""
    line = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    if not _BETWEEN_PROCESSES.search(str(error)):
        traceback.print_exception(error)
        _last.leave(f"{name()} failed: {line}. {_last_checkpoint()}")
    _last.leave(f"{_lost()} ({line})")


def stop_signal() -> StopSignal:
    """What stops a run after saving, to be entered."""
    return StopSignal() if count() == 1 else StopTogether()


def leave(code: int) -> int:
    """Parts from the other processes, if there are any, and gives back the exit code."""
    if count() == 1:
        return code
    sys.stdout.flush()
    if code == 0:
        _last.words = lambda: f"{name()} is done, but another one did not come to its end"
        jax.distributed.shutdown()
        return 0
    # Those that fail alike say so each by itself; nobody waits for the others.
    with contextlib.suppress(Exception):
        global_state.client.wait_at_barrier("mixer/failed", _FAIL_ALIKE * 1000)
    os._exit(code)
