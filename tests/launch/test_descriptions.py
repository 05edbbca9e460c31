"""The container, the JobSet and the SkyPilot task: what can be checked without a cloud."""

import math
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mixer import recipes

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
# Field names of the JobSet API, v1alpha2, and of a Kubernetes Job, by where they stand.
JOBSET = {
    "spec": "replicatedJobs network successPolicy failurePolicy startupPolicy suspend coordinator "
    "managedBy ttlSecondsAfterFinished volumeClaimPolicies",
    "spec.failurePolicy": "maxRestarts restartStrategy rules",
    "spec.failurePolicy.rules": "name action onJobFailureReasons onJobFailureMessagePatterns "
    "targetReplicatedJobs",
    "spec.replicatedJobs": "name groupName template replicas dependsOn",
    "job": "activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions "
    "maxFailedIndexes parallelism podFailurePolicy podReplacementPolicy suspend template "
    "ttlSecondsAfterFinished",
}
# Of a SkyPilot task.
TASK = "name workdir num_nodes resources envs secrets file_mounts volumes setup run config service"
RESOURCES = (
    "infra cloud region zone accelerators accelerator_args cpus memory instance_type use_spot "
    "disk_size disk_tier network_tier image_id ports labels autostop any_of ordered job_recovery"
)


def known(fields, names):
    strange = set(fields) - set(names.split())
    assert not strange, strange


def jobset():
    *others, found = yaml.safe_load_all((LAUNCH / "gke_jobset.yaml").read_text())
    return {each["kind"]: each for each in others}, found


def test_the_jobset_has_the_fields_of_its_api():
    _, found = jobset()
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = found["spec"]
    known(spec, JOBSET["spec"])
    known(spec["failurePolicy"], JOBSET["spec.failurePolicy"])
    for rule in spec["failurePolicy"]["rules"]:
        known(rule, JOBSET["spec.failurePolicy.rules"])
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    for replicated in spec["replicatedJobs"]:
        known(replicated, JOBSET["spec.replicatedJobs"])
        known(replicated["template"]["spec"], JOBSET["job"])


def test_the_jobset_starts_a_pod_on_each_host_and_takes_exit_codes_as_main_py_means_them():
    others, found = jobset()
    (replicated,) = found["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    hosts = chips // container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == hosts
    assert job["completionMode"] == "Indexed" and job["backoffLimit"] == 0
    # Bad input fails the Job by its policy, and that the JobSet; Kubernetes asks for Never with it.
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and pod["restartPolicy"] == "Never"
    code = {"containerName": container["name"], "operator": "In", "values": [2]}
    assert rule["onExitCodes"] == code
    (of_set,) = found["spec"]["failurePolicy"]["rules"]
    assert of_set["action"] == "FailJobSet" and of_set["onJobFailureReasons"] == [
        "PodFailurePolicy"
    ]
    # Who may look for the pods is who they run as.
    account = others["ServiceAccount"]["metadata"]["name"]
    binding = others["RoleBinding"]
    assert pod["serviceAccountName"] == account == binding["subjects"][0]["name"]
    assert binding["roleRef"]["name"] == others["Role"]["metadata"]["name"]
    readable = {r for rule in others["Role"]["rules"] for r in rule["resources"]}
    assert readable >= {"pods", "services", "jobs"}
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
    assert container["command"] == ["python", "launch/attempt.py"]
    checked_command(container["args"])


def checked_command(arguments):
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    recipe, _, _ = given["config"].partition(":")
    assert recipes.find(recipe).exists()
    return given


def test_the_skypilot_task_has_its_fields_and_its_scripts_are_clean():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    known(task, TASK)
    known(task["resources"], RESOURCES)
    known(
        task["resources"]["job_recovery"], "strategy max_restarts_on_errors recover_on_exit_codes"
    )
    checked_command(task["envs"]["ARGUMENTS"].split())
    assert (ROOT / f"requirements-{task['envs']['ACCELERATOR']}.txt").exists()
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or "shellcheck"
    for script in (task["setup"], task["run"]):
        for file in re.findall(r"launch/[\w.]+", script):
            assert (ROOT / file).exists()
        command = [shellcheck, "--shell=bash", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("nodes", [1, 2])
def test_skypilots_machines_are_told_of_each_other(nodes, tmp_path):
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    env = task["envs"] | {"WORKDIR": "gs://bucket/a run", "PATH": "/usr/bin:/bin"}
    env |= {"SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": "1"}
    env |= {"SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8"}
    done = subprocess.run(
        ["bash", "-ec", task["run"]], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0 and said[0] == "launch/attempt.py", done
    others = ["--coordinator=10.0.0.7:8476", "--num_processes=2", "--process_id=1"]
    assert said[1:] == [
        *task["envs"]["ARGUMENTS"].split(),
        "--workdir=gs://bucket/a run",
        *(others if nodes == 2 else []),
    ]


def test_the_container_installs_what_there_is():
    text = (LAUNCH / "Dockerfile").read_text()
    shell = re.search(r"RUN (case .*?)\n(?=COPY)", text, re.DOTALL)[1].replace("\\\n", "\n")
    installs = 'pip() { printf "%s\\n" "$@"; }\n' + shell
    for accelerator in ("cpu", "tpu", "cuda"):
        env = {"ACCELERATOR": accelerator, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["bash", "-euc", installs], env=env, capture_output=True, text=True)
        files = re.findall(r"^requirements.*", done.stdout, re.MULTILINE)
        assert len(files) == 2 and all((ROOT / file).exists() for file in files), done
        assert accelerator == "cpu" or accelerator in files[0]
    done = subprocess.run(
        ["bash", "-euc", installs], env=env | {"ACCELERATOR": "gpu"}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "ACCELERATOR=gpu: expected cpu, tpu or cuda" in done.stderr


@pytest.fixture
def attempt(tmp_path):
    """launch/attempt.py beside a main.py that does what it is told."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "attempt.py", tmp_path / "launch")

    def start(program, *arguments):
        (tmp_path / "main.py").write_text(program)
        return subprocess.Popen(
            [sys.executable, tmp_path / "launch/attempt.py", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_an_attempt_ends_with_0_only_when_the_run_is_complete(attempt, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    given = f"--workdir={workdir}"
    for program, code in (
        ("import sys; sys.exit(2)", 2),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("", 75),
        (f"import sys, pathlib; pathlib.Path({str(workdir)!r}, 'results.json').touch()", 0),
    ):
        assert attempt(program, given).wait() == code, program
    missing = attempt("")
    assert "--workdir=DIR is missing" in missing.communicate()[1] and missing.returncode == 2


def test_an_attempt_passes_on_the_signal_that_stops_a_run(attempt, tmp_path):
    begun = tmp_path / "begun"
    program = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    run = attempt(program, f"--workdir={tmp_path / 'run'}")
    while not begun.exists():
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 75
