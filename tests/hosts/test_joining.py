"""How processes find each other: by flags, or by the variables of launchers."""

import os
import socket
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import jax
import pytest
from jax._src.clusters import ClusterEnv, K8sCluster, cloud_tpu_cluster, k8s_cluster

from mixer.errors import BadInput, Failure
from mixer.hosts import devices, exchange, joining, parting, peers


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("host:1", None, 0), "--num_processes is missing"),
        (("host:1", 2, 2), "--process_id=2: expected 0 to 1"),
        (("host", 2, 0), "--coordinator=host: expected HOST:PORT"),
    ],
)
def test_inconsistent_flags_are_refused(flags, message):
    with pytest.raises(BadInput, match=message):
        joining.start(*flags, "train")
    assert peers.count() == 1


@pytest.fixture
def surroundings(monkeypatch):
    """start(*flags, **variables): joins as under these variables, but only records the calls."""
    clear(monkeypatch)
    joined = []
    monkeypatch.setattr(joining, "_join", lambda run, said, *_, **kw: joined.append((said, kw)))
    monkeypatch.setattr(joining, "_on_tpu", lambda: False)

    def start(*flags, **variables):
        with monkeypatch.context() as here:
            for name, value in variables.items():
                here.setenv(name, value)
            joined.clear()
            joining.start(*(flags or (None, None, None)), "train")
            return joined

    return start


def clear(monkeypatch):
    """Removes the variables of launchers."""
    launchers = ("SLURM", "OMPI", "PMI", "TPU_", "KUBERNETES", "MEGASCALE")
    for name in (*os.environ,):
        if name.startswith(launchers) or name in ("WORLD_SIZE", "JOB_COMPLETION_INDEX"):
            monkeypatch.delenv(name)


def test_one_process_does_not_wait(surroundings, capsys):
    step = {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}
    for flags in (("host:1", 1, 0), (None, 1, None), (None, 1, 0)):
        assert surroundings(*flags, **step) == [] and capsys.readouterr().out == ""
    assert exchange.sum_over_processes(3) == 3 and exchange.from_first(lambda: [1]) == [1]


def test_slurm_processes_are_counted_per_job_step(surroundings, capsys):
    step = {"SLURM_STEP_NODELIST": "node[1-2]"}
    assert surroundings(**step, SLURM_NTASKS="4") == [("SLURM_NTASKS=4", {"processes": 4})]
    # salloc's shell, and srun -n1 --preserve-env: the job has more tasks than the step.
    assert surroundings(**step, SLURM_NTASKS="4", SLURM_STEP_NUM_TASKS="1") == []
    assert surroundings(**step, SLURM_NTASKS="4", SLURM_STEP_NUM_TASKS="2") == [
        ("SLURM_STEP_NUM_TASKS=2", {"processes": 2})
    ]
    assert capsys.readouterr().out == ""
    assert surroundings(SLURM_NTASKS="4") == []  # sbatch's script
    assert "SLURM_NTASKS=4, but this process was not started by srun" in capsys.readouterr().out


def test_a_launchers_processes_that_cannot_be_found_are_refused(surroundings, monkeypatch):
    nobody = ValueError("coordinator_address should be defined.")
    with pytest.raises(BadInput, match="mpirun has started 4 processes .OMPI_COMM_WORLD_SIZE=4"):
        surroundings(OMPI_COMM_WORLD_SIZE="4")
    assert surroundings(None, 1, None, OMPI_COMM_WORLD_SIZE="4") == []
    assert surroundings(WORLD_SIZE="1") == []
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "10.0.0.1")
    joining._check_alone(joining._METADATA, None, nobody)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "10.0.0.1,10.0.0.2")
    with pytest.raises(BadInput, match="one of 2 processes .TPU_WORKER_HOSTNAMES=10.0.0.1,10"):
        joining._check_alone(joining._METADATA, None, nobody)
    with pytest.raises(BadInput, match="one of 4 processes .SLURM_NTASKS=4., but JAX does not"):
        joining._check_alone("SLURM_NTASKS=4", 4, nobody)
    devices.check_process_count(1)
    monkeypatch.setattr(devices.jax, "process_count", lambda: 4)
    with pytest.raises(BadInput, match="devices here belong to 4 processes, but 1 have joined"):
        devices.check_process_count(1)


MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
SLICE = {"TPU_WORKER_HOSTNAMES": "host-a,host-b,host-c", "TPU_WORKER_ID": "1"}
SLICE |= {f"MEGASCALE_{name}": "" for name in ("COORDINATOR_ADDRESS", "NUM_SLICES", "SLICE_ID")}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3", "HOSTNAME": "pod-3"}


@pytest.fixture
def detected(monkeypatch):
    """start(variables): (coordinator, processes, process) as JAX's own detection finds them."""
    clear(monkeypatch)
    found = []

    def initialize(coordinator, processes, process, cluster_detection_method=None, **_):
        asked = (coordinator, processes, process, None, cluster_detection_method, 1)
        found.append(ClusterEnv.auto_detect_unset_distributed_params(*asked)[:3])
        if None in found[-1]:  # as JAX does
            raise ValueError("Number of processes must be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(parting.LAST_WORDS, "install", lambda: None)
    monkeypatch.setattr(parting.LAST_WORDS, "uninstall", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(joining, "_on_tpu", lambda: "TPU_WORKER_ID" in os.environ)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: f"address of {name}")
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "8476")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # no server is asked

    def start(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        joining.start(None, None, None, "train")
        (one,) = found
        return one

    return start


def cluster(monkeypatch, list_pods):
    """A fake Kubernetes client with what JAX uses; one Job of a JobSet, with five pods."""
    job = SimpleNamespace(
        metadata=SimpleNamespace(name="set-job", labels={"jobset.sigs.k8s.io/jobset-name": "set"}),
        spec=SimpleNamespace(parallelism=5),
    )
    client = ModuleType("kubernetes")
    client.__spec__ = ModuleSpec("kubernetes", None)
    client.config = SimpleNamespace(load_incluster_config=lambda: None)
    core = SimpleNamespace(list_namespaced_pod=list_pods)
    batch = SimpleNamespace(read_namespaced_job=lambda name, namespace: job)
    client.client = SimpleNamespace(
        CoreV1Api=lambda: core,
        BatchV1Api=lambda: batch,
        exceptions=SimpleNamespace(ApiException=PermissionError),
    )
    monkeypatch.setitem(sys.modules, "kubernetes", client)
    monkeypatch.setattr(k8s_cluster, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(K8sCluster, "_namespace", lambda: "default")
    for name in ("_pod", "_job", "_controller"):
        vars(K8sCluster)[name].__func__.cache_clear()


def the_pod(namespace, field_selector):
    assert (namespace, field_selector) == ("default", "status.podIP=address of pod-3")
    owner = SimpleNamespace(controller=True, kind="Job")
    labels = {"job-name": "set-job"}
    return SimpleNamespace(
        items=[SimpleNamespace(metadata=SimpleNamespace(labels=labels, owner_references=[owner]))]
    )


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (MPI, ("10.96.0.1:8476", 4, 2)),
        (SLURM, ("node3:8476", 2, 1)),
        (SLICE, ("host-a:8476", 3, 1)),
        (POD, ("set-job-0.set:8476", 5, 3)),
        # mpirun's daemons are tasks of SLURM; a slice's hosts may be pods.
        (SLURM | MPI, ("10.96.0.1:8476", 4, 2)),
        (POD | SLICE, ("host-a:8476", 3, 1)),
    ],
    ids=["mpirun", "srun", "slice", "pods", "mpirun-in-slurm", "slice-of-pods"],
)
def test_jax_finds_the_others_by_their_launchers_variables(variables, found, detected, monkeypatch):
    cluster(monkeypatch, the_pod)
    assert detected(variables) == found


def test_half_of_a_launchers_variables_are_refused(detected, monkeypatch):
    def without(variables, *names):
        return {name: value for name, value in variables.items() if name not in names}

    refused = [
        (without(MPI, "OMPI_MCA_orte_hnp_uri"), "would find them by OMPI_MCA_orte_hnp_uri, which"),
        (without(MPI, "OMPI_COMM_WORLD_RANK"), "mpirun has started 4 .* by OMPI_COMM_WORLD_RANK"),
        (without(SLURM, "SLURM_PROCID"), "one of 2 processes .SLURM_NTASKS=2., but JAX does not"),
        (
            without(POD, "KUBERNETES_SERVICE_HOST"),
            "COMPLETION_INDEX=3.* as KUBERNETES_SERVICE_HOST",
        ),
        (POD, r"one of several processes .*missing \(pip install kubernetes\): give each --coord"),
    ]
    monkeypatch.setattr(joining.importlib.util, "find_spec", lambda name: None)
    for variables, message in refused:
        with monkeypatch.context() as here:
            for name, value in variables.items():
                here.setenv(name, value)
            with pytest.raises(BadInput, match=message):
                joining.start(None, None, None, "train")
            joining.start(None, 1, None, "train")  # it is alone, as it says itself


def test_a_cluster_that_does_not_answer_is_worth_another_try(detected, monkeypatch):
    def forbidden(*_, **__):
        raise error

    error = PermissionError("nobody may")
    error.status, error.reason = 403, "Forbidden"
    cluster(monkeypatch, forbidden)
    with pytest.raises(Failure, match=r"INDEX=3.*asking for them failed \(Kubernetes API Error: 4"):
        detected(POD)
