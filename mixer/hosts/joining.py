"""How the processes of a run find each other."""

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

# Runs that several processes can do together.
TOGETHER = ("train", "sweep", "vtab", "evaluate", "fewshot", "doctor")
# Seconds that the processes wait for each other at the start (and until they say so), and at the
# end.
_MEET, _SAY, _PART = 300, 5, 60
# Seconds without a sign of life after which a process counts as lost: long enough for a network's
# hiccup, and short beside what a restart costs.
_HEARTBEAT = 30
# What says how many processes other launchers have started; JAX does not find them by it.
_LAUNCHERS = {"PMI_SIZE": "mpiexec", "WORLD_SIZE": "torchrun"}
# By what JAX finds those that Open MPI's mpirun has started.
_OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
_METADATA = "the TPU's metadata"
_ALONE = "--num_processes=1"


def start(coordinator: str | None, processes: int | None, process: int | None, run: str) -> None:
    """Joins the other processes, if there are any; before JAX is used for anything.

    Without arguments JAX itself finds the processes of Open MPI's mpirun, SLURM's tasks, the hosts
    of a TPU slice, and the pods of an indexed Job of Kubernetes.

    Args:
      coordinator: HOST:PORT at which process 0 listens.
      processes: how many there are; with 1 there is nothing to join.
      process: which this is, from 0.
      run: `config.run`.

    Raises:
      BadInput: flags that do not go together, a port that cannot be listened at, or others that are
        known of and cannot be found.
    """
    given = {"coordinator": coordinator, "num_processes": processes, "process_id": process}
    if processes == 1 and not coordinator and not process:
        return
    if None not in given.values():
        _check(coordinator, processes, process)
        if processes > 1:
            said = f"--num_processes={processes}"
            _join(run, said, coordinator, processes, process, cluster_detection_method="deactivate")
    elif any(value is not None for value in given.values()):
        missing = ", ".join(f"--{key}" for key, value in given.items() if value is None)
        raise errors.BadInput(
            f"{missing} is missing: --coordinator=HOST:PORT, --num_processes and --process_id go "
            f"together"
        )
    else:
        _find(run)


def _find(run: str) -> None:
    """Joins those of whom the surroundings tell; JAX asks for them in the same order."""
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
        print(f"{variable}={tasks}, but this process was not started by srun: it is alone")
    for variable, launcher in _LAUNCHERS.items():
        if (others := _number(variable)) > 1:
            raise errors.BadInput(_strangers(launcher, variable, others))


def _number(variable: str) -> int:
    """What a variable of the environment holds; 0 where it holds no number."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else 0


def _strangers(launcher: str, variable: str, others: int) -> str:
    return (
        f"{launcher} has started {others} processes ({variable}={others}), which do not know of "
        f"each other: give each --coordinator=HOST:PORT, --num_processes={others} and "
        f"--process_id, or {_ALONE} where each is a run of its own"
    )


def _open_mpi() -> int:
    """How many processes mpirun has started; 0 where it has not, or only one.

    Raises:
      BadInput: it has, and what JAX needs to find them is not there.
    """
    # Asked before SLURM: where mpirun starts its daemons by srun, the step is that of the daemons.
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
    """The variable that says how many tasks the job step has, or the job, and its number."""
    # The job's number is also that of salloc's shell, where one task runs.
    for variable in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        if number := _number(variable):
            return variable, number
    return "", 1


def _pod() -> str:
    """What says that this is one pod of an indexed Job of Kubernetes; empty where it is none.

    Raises:
      BadInput: it is, and JAX cannot ask the cluster for the others.
    """
    index = os.environ.get("JOB_COMPLETION_INDEX")
    if index is None:
        return ""
    said = f"JOB_COMPLETION_INDEX={index}"
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise errors.BadInput(_unfound(said, "as KUBERNETES_SERVICE_HOST is not set"))
    if importlib.util.find_spec("kubernetes") is None:
        raise errors.BadInput(
            _unfound(said, "as the package that it asks by is missing (pip install kubernetes)")
        )
    return said


def _unfound(said: str, why: str, processes: int | None = None) -> str:
    return (
        f"this is one of {processes or 'several'} processes ({said}), but JAX does not find the "
        f"others{why and ', '}{why}: give each --coordinator=HOST:PORT, --num_processes="
        f"{processes or 'N'} and --process_id, or {_ALONE} to run alone"
    )


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


def _on_tpu() -> bool:
    if os.environ.get("JAX_PLATFORMS", "tpu").partition(",")[0] != "tpu":
        return False
    return devices.accelerator() == "TPU"


def _join(run: str, said: str, coordinator=None, processes=None, process=None, **options) -> None:
    """Meets the others, of whom `said` tells: a variable, a flag."""
    parting.LAST.install()
    parting.LAST.words = lambda: _unmet(said)
    # Otherwise SIGTERM keeps its usual meaning: these can stop anywhere.
    jax.config.update("jax_enable_preemption_service", run in ("train", "sweep", "vtab"))
    try:
        with _patience(said):
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=2 * _MEET,  # ours is shorter, and its line too
                heartbeat_timeout_seconds=_HEARTBEAT,
                shutdown_timeout_seconds=_PART,
                **options,
            )
    except Exception as error:  # Kubernetes' client, which JAX asks, has errors of its own
        if coordinator is None and runtime.coordinator() is None:
            parting.LAST.withdraw()
            _check_alone(said, processes, error)
            return
        if not isinstance(error, RuntimeError | ValueError):
            raise
        line = str(error).strip().splitlines()[0]
        raise errors.BadInput(
            f"{name()} cannot begin at {_where()}: {line}. Process 0 has to run on that host, and "
            f"the port has to be free"
        ) from None
    if count() == 1:
        parting.LAST.withdraw()
        return
    if run not in TOGETHER:
        raise errors.BadInput(
            f"config.run={run} is for one process, not for {count()}: {', '.join(TOGETHER)} can "
            f"be done together"
        )
    parting.LAST.words = parting.lost
    if index():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # one console is enough


def _check_alone(said: str, processes: int | None, error: Exception) -> None:
    """JAX has found nobody. That is right for a single TPU host.

    Raises:
      BadInput: there are others.
      Failure: whoever was asked for them did not answer; another try may find them.
    """
    if not isinstance(error, ValueError):
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.Failure(_unfound(said, f"as asking for them failed ({reason})", processes))
    if said == _METADATA:
        hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
        said, processes = f"TPU_WORKER_HOSTNAMES={hosts}", len(hosts.split(","))
        if processes == 1:
            return
    raise errors.BadInput(_unfound(said, "", processes))


@contextlib.contextmanager
def _patience(said: str) -> Iterator[None]:
    """Says what is waited for, and ends the waiting before JAX does, with pages of its own."""
    met = threading.Event()

    def watch() -> None:
        if not met.wait(_SAY):
            text = (
                f"{name()} waits at {_where()} for the others, up to {_MEET} s. There are "
                f"{count()} because of {said}; {_ALONE} runs alone\n"
            )
            os.write(2, text.encode())
        if not met.wait(_MEET - _SAY):
            parting.LAST.leave(_unmet(said))

    threading.Thread(target=watch, daemon=True).start()
    # Python's own handler would run when JAX comes back.
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        met.set()


def _unmet(said: str) -> str:
    return (
        f"{name()}: not all processes have met at {_where()} within {_MEET} s. There are {count()} "
        f"because of {said}: start them all with the same flags, and see that they can reach it; "
        f"or run alone, with {_ALONE}"
    )


def _where() -> str:
    return runtime.coordinator() or "the coordinator that was looked for"
