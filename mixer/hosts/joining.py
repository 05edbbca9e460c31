"""How the processes of a run find and join each other: flags, SLURM, TPU pods, timeouts."""

import contextlib
import importlib.util
import os
import re
import signal
import threading
from collections.abc import Iterator

import jax

from mixer import errors
from mixer.hosts import devices, parting, runtime
from mixer.hosts.peers import count, index, name

# The kinds of runs (config.run) that several processes can share.
MULTI_PROCESS_RUNS = ("train", "sweep", "vtab", "evaluate", "fewshot", "predict", "doctor")
# Seconds: how long the processes wait for each other at the start and at the end, and how long a
# process waits at the start before it says so.
_START_TIMEOUT, _SHUTDOWN_TIMEOUT, _NOTICE_AFTER = 300, 60, 5
# Seconds without a heartbeat after which a process counts as lost: long enough for a hiccup of the
# network, and short compared to a restart.
_HEARTBEAT_TIMEOUT = 30
# Variables with which other launchers say how many processes they started. JAX does not use them.
_LAUNCHERS = {"PMI_SIZE": "mpiexec", "WORLD_SIZE": "torchrun"}
# The variables by which JAX finds the processes of Open MPI's mpirun.
_OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
_METADATA = "the TPU's metadata"
_ALONE = "--num_processes=1"


def start(coordinator: str | None, processes: int | None, process: int | None, run: str) -> None:
    """Joins the other processes of this run, if there are any. Call it before any use of JAX.

    Without arguments JAX itself finds the processes of Open MPI's mpirun, SLURM's tasks, the hosts
    of a TPU slice, and the pods of an indexed Job of Kubernetes.

    Args:
      coordinator: HOST:PORT at which process 0 listens.
      processes: number of processes; 1 runs alone.
      process: number of this process, from 0.
      run: `config.run`.

    Raises:
      BadInput: inconsistent flags, a port that is not free, a launcher's processes that cannot be
        found, or a run for one process only.
    """
    given = {"coordinator": coordinator, "num_processes": processes, "process_id": process}
    if processes == 1 and not coordinator and not process:
        return
    if None not in given.values():
        _check_flags(coordinator, processes, process)
        if processes > 1:
            flag = f"--num_processes={processes}"
            _join(run, flag, coordinator, processes, process, cluster_detection_method="deactivate")
    elif any(value is not None for value in given.values()):
        missing = ", ".join(f"--{key}" for key, value in given.items() if value is None)
        raise errors.BadInput(
            f"{missing} is missing: --coordinator=HOST:PORT, --num_processes and --process_id go "
            f"together"
        )
    else:
        _detect(run)


def _detect(run: str) -> None:
    """Joins the processes that a launcher has started, detected in the same order as by JAX."""
    if started := _open_mpi():
        _join(run, f"OMPI_COMM_WORLD_SIZE={started}", processes=started)
        return
    variable, tasks = _slurm()
    if "SLURM_STEP_NODELIST" in os.environ:
        if tasks > 1:
            _join(run, f"{variable}={tasks}", processes=tasks)
        return
    if _on_tpu():
        _join(run, _METADATA)
        return
    if pod := _pod():
        _join(run, pod)
        return
    if tasks > 1:  # a batch script itself is one process
        print(f"{variable}={tasks}, but this process was not started by srun: it runs alone")
    for variable, launcher in _LAUNCHERS.items():
        if (others := _number(variable)) > 1:
            raise errors.BadInput(_strangers(launcher, variable, others))


def _number(variable: str) -> int:
    """The number in an environment variable; 0 if it holds none."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else 0


def _strangers(launcher: str, variable: str, others: int) -> str:
    return (
        f"{launcher} has started {others} processes ({variable}={others}), but they cannot find "
        f"each other: give each --coordinator=HOST:PORT, --num_processes={others} and "
        f"--process_id, or {_ALONE} if each is a run of its own"
    )


def _open_mpi() -> int:
    """How many processes mpirun has started; 0 if it has started none or only one.

    Raises:
      BadInput: variables are missing by which JAX would find them.
    """
    # Detected before SLURM: if mpirun starts its daemons by srun, the step is that of the daemons.
    others = _number("OMPI_COMM_WORLD_SIZE")
    if others < 2:
        return 0
    if missing := [variable for variable in _OPEN_MPI if variable not in os.environ]:
        raise errors.BadInput(
            f"{_strangers('mpirun', 'OMPI_COMM_WORLD_SIZE', others)}. JAX would find them by "
            f"{', '.join(missing)}, which mpirun of Open MPI 4 sets and that of Open MPI 5 does not"
        )
    return others


def _slurm() -> tuple[str, int]:
    """(variable, number of tasks) of the SLURM job step, or else of the job."""
    # The shell of salloc also has the job's number, though it is one task.
    for variable in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        if number := _number(variable):
            return variable, number
    return "", 1


def _pod() -> str:
    """The variable that says that this is a pod of an indexed Job of Kubernetes; "" if it is none.

    Raises:
      BadInput: JAX cannot ask the cluster for the other pods.
    """
    index = os.environ.get("JOB_COMPLETION_INDEX")
    if index is None:
        return ""
    source = f"JOB_COMPLETION_INDEX={index}"
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise errors.BadInput(_unfound(source, "as KUBERNETES_SERVICE_HOST is not set"))
    if importlib.util.find_spec("kubernetes") is None:
        raise errors.BadInput(
            _unfound(source, "as the package that it needs is missing (pip install kubernetes)")
        )
    return source


def _unfound(source: str, why: str, processes: int | None = None) -> str:
    return (
        f"this is one of {processes or 'several'} processes ({source}), but JAX does not find the "
        f"others{why and ', '}{why}: give each --coordinator=HOST:PORT, --num_processes="
        f"{processes or 'N'} and --process_id, or {_ALONE} to run alone"
    )


def _check_flags(coordinator: str, processes: int, process: int) -> None:
    if not re.fullmatch(r".+:\d+", coordinator):
        raise errors.BadInput(
            f"--coordinator={coordinator}: expected HOST:PORT of process 0, such as 10.0.0.1:8476"
        )
    if not 0 <= process < processes:
        raise errors.BadInput(
            f"--process_id={process}: expected 0 to {processes - 1}, with "
            f"--num_processes={processes}"
        )


def _on_tpu() -> bool:
    if os.environ.get("JAX_PLATFORMS", "tpu").partition(",")[0] != "tpu":
        return False
    return devices.accelerator() == "TPU"


def _join(run: str, source: str, coordinator=None, processes=None, process=None, **options) -> None:
    """Joins the other processes; `source` is the flag or variable that says how many there are."""
    parting.LAST_WORDS.install()
    parting.LAST_WORDS.words = lambda: _not_all_joined(source)
    # Only these runs save when they stop. The others can stop anywhere, so SIGTERM ends them.
    jax.config.update("jax_enable_preemption_service", run in ("train", "sweep", "vtab"))
    try:
        with _start_timeout(source):
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                # Our own timeout is shorter, and prints a line instead of pages.
                initialization_timeout=2 * _START_TIMEOUT,
                heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT,
                shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT,
                **options,
            )
    except Exception as error:  # the Kubernetes client, which JAX uses, has errors of its own
        if coordinator is None and runtime.coordinator() is None:
            parting.LAST_WORDS.uninstall()
            _check_alone(source, processes, error)
            return
        if not isinstance(error, RuntimeError | ValueError):
            raise
        line = str(error).strip().splitlines()[0]
        raise errors.BadInput(
            f"{name()} cannot start at {_address()}: {line}. Process 0 has to run on that host, "
            f"and the port has to be free"
        ) from None
    if count() == 1:
        parting.LAST_WORDS.uninstall()
        return
    if run not in MULTI_PROCESS_RUNS:
        raise errors.BadInput(
            f"config.run={run} is for one process, not for {count()}; several processes can do "
            f"{', '.join(MULTI_PROCESS_RUNS)}"
        )
    parting.LAST_WORDS.words = parting.lost
    if index():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # only process 0 prints


def _check_alone(source: str, processes: int | None, error: Exception) -> None:
    """Checks that there are no others if JAX has found none, as on a single TPU host.

    Raises:
      BadInput: there are others.
      Failure: the cluster did not answer; another try may find them.
    """
    if not isinstance(error, ValueError):
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.Failure(_unfound(source, f"as asking for them failed ({reason})", processes))
    if source == _METADATA:
        hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
        source, processes = f"TPU_WORKER_HOSTNAMES={hosts}", len(hosts.split(","))
        if processes == 1:
            return
    raise errors.BadInput(_unfound(source, "", processes))


@contextlib.contextmanager
def _start_timeout(source: str) -> Iterator[None]:
    """Says after some seconds for whom the block waits, and exits at the timeout."""
    joined = threading.Event()

    def watch() -> None:
        if not joined.wait(_NOTICE_AFTER):
            text = (
                f"{name()} waits at {_address()} for the others, up to {_START_TIMEOUT} s. "
                f"{source} says that there are {count()}; {_ALONE} runs this one alone\n"
            )
            os.write(2, text.encode())
        if not joined.wait(_START_TIMEOUT - _NOTICE_AFTER):
            parting.LAST_WORDS.leave(_not_all_joined(source))

    threading.Thread(target=watch, daemon=True).start()
    # Python would only run its own handler when JAX returns.
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        joined.set()


def _not_all_joined(source: str) -> str:
    return (
        f"{name()}: not all processes have joined at {_address()} within {_START_TIMEOUT} s. "
        f"{source} says that there are {count()}: start them all with the same flags, and check "
        f"that they can reach that address; or run alone, with {_ALONE}"
    )


def _address() -> str:
    return runtime.coordinator() or "the coordinator, which JAX has not found"
