"""The launcher with a stand-in for gcloud, whose workers are folders on this machine."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WORKDIR = "gs://bucket/runs/one"
TPU = ("--name=one", "--project=lab", "--zone=here-a", "--poll=0")
NEW = ("--type=v5litepod-16", "--wheels=gs://bucket/wheels")
# What a shell would take apart.
ODD = ["--config=configs/jft.py:Mixer-B/16", "--config.total=2 epochs", 'it\'s "$HOME" `ls`;\n&*']

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the workers are Linux machines"),
]


class Cloud:
    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir()
        for name, program in (
            ("gcloud", "gcloud_stand_in.py"),
            ("uv", "worker_stand_in.py uv"),
            ("pip", "worker_stand_in.py pip"),
            ("python", "worker_stand_in.py python"),
        ):
            file = folder / "bin" / name
            file.write_text(f'#!/bin/sh\nexec {sys.executable} -SE {HERE}/{program} "$@"\n')
            file.chmod(file.stat().st_mode | stat.S_IEXEC)
        self.repository = folder / "code"
        shutil.copytree(ROOT / "launch", self.repository / "launch")
        for name in ("requirements.txt", "requirements-tpu.txt", "requirements-gcs.txt"):
            shutil.copy(ROOT / name, self.repository)
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=all")
        self.script()

    def git(self, *words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(self.repository), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def script(self, workers=2, lives=(("ACTIVE",),), acts=("complete",), **more):
        script = {"workers": workers, "lives": lives, "acts": acts} | more
        (self.folder / "script.json").write_text(json.dumps(script))

    def start(self, command, *options, arguments=()):
        words = [command, *TPU, *options, *(["--", *arguments] if arguments else [])]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", self.repository / "launch" / "tpu_vm.sh", *words],
            env=os.environ | {"STAND_IN": str(self.folder), "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launch(self, command, *options, arguments=()):
        process = self.start(command, *options, arguments=arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def train(self, *arguments):
        return self.launch("train", *NEW, arguments=[f"--workdir={WORKDIR}", *arguments])

    def noted(self, name):
        file = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def asked(self, *words):
        """The calls of gcloud that begin with these words."""
        count = len(words)
        return [call for call in self.noted("calls") if tuple(call[2 : 2 + count]) == words]

    def starts(self):
        return [words for words in self.noted("main") if "--config.run=doctor" not in words]

    def wait_for(self, starts):
        deadline = time.monotonic() + 60
        while len(self.starts()) < starts and time.monotonic() < deadline:
            time.sleep(0.05)

    def close(self):
        for file in self.folder.glob("vms/*/*/mlp-mixer/run.pid"):
            subprocess.run(["kill", "-KILL", file.read_text().strip()], capture_output=True)


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


def test_a_run_from_the_request_to_its_results(cloud):
    cloud.script(lives=[["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]])
    code, out, err = cloud.train(*ODD)
    assert code == 0, err
    assert out.splitlines()[-1].split(" ", 1)[1].startswith(f"complete: {WORKDIR}/results.json")
    (create,) = cloud.asked("queued-resources", "create")
    assert create[4:] == [
        "one",
        "--node-id=one",
        "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--project=lab",
        "--zone=here-a",
        "--quiet",
    ]
    # What main.py gets on each worker is what was given, word for word; the doctor comes first.
    given = ["main.py", f"--workdir={WORKDIR}", *ODD]
    noted = cloud.noted("main")
    assert noted[:2] == [["1", worker, *given, "--config.run=doctor"] for worker in "01"]
    assert sorted(noted[2:]) == [["1", worker, *given] for worker in "01"]
    for worker in (cloud.folder / "vms" / "1").iterdir():
        code = worker / "mlp-mixer" / "code"
        assert (code / "requirements.txt").exists()
        head = ["git", "-C", str(code), "rev-parse", "HEAD"]
        assert subprocess.check_output(head, text=True).strip() == cloud.git("rev-parse", "HEAD")
    assert not cloud.asked("queued-resources", "delete")


def test_a_preempted_run_resumes_with_the_same_wheels(cloud):
    lives = [["ACTIVE", "ACTIVE", "ACTIVE", "SUSPENDING", "SUSPENDED"], ["ACTIVE"]]
    cloud.script(lives=lives, acts=("wait", "complete"))
    code, _, err = cloud.train("--config=a.py")
    assert code == 0, err
    assert len(cloud.asked("queued-resources", "create")) == 2
    assert len(cloud.asked("queued-resources", "delete")) == 1
    assert [words[0] for words in cloud.starts()] == ["1", "1", "2", "2"]
    assert len({tuple(words[2:]) for words in cloud.starts()}) == 1
    assert len(cloud.noted("pip")) == 1
    installed = [path.read_text() for path in cloud.folder.glob("vms/*/*/*/venv/installed")]
    assert installed == ["jax-0.1-py3-none-any.whl"] * 4
    code, out, _ = cloud.train("--config=a.py")
    assert code == 0 and "complete" in out
    assert len(cloud.starts()) == 4


def test_all_workers_restart_if_one_fails(cloud):
    cloud.script(acts=({"1": 1, "*": "wait"}, "complete"))
    code, out, err = cloud.train("--config=a.py")
    assert code == 0, err
    assert ": exit 1" in out and ": running" in out and "error: it fails" in out
    assert len(cloud.starts()) == 4
    assert not cloud.asked("queued-resources", "delete")
    assert "saved" in (cloud.folder / "vms/1/0/mlp-mixer/run.log").read_text()


def test_it_gives_up_only_without_a_new_checkpoint(cloud):
    cloud.script(workers=1, acts=("save", "save", 1))
    code, _, err = cloud.train("--config=a.py")
    assert code == 1 and "given up: three times without a new checkpoint" in err
    assert len(cloud.starts()) == 4  # the second start began a new count


def test_bad_input_is_not_retried(cloud):
    cloud.script(workers=1, acts=(2,))
    code, out, err = cloud.train("--config=a.py")
    assert code == 1 and "main.py refuses its arguments" in err and "error: it fails" in out
    assert len(cloud.starts()) == 1


@pytest.mark.parametrize(
    ("answers", "acts"), [(0, ["complete"]), (1, ["wait", "complete"]), (3, ["wait", "complete"])]
)
def test_a_tpu_whose_worker_does_not_answer_is_replaced(answers, acts, cloud):
    """It never answers, or stops answering after the run has started."""
    cloud.script(acts=acts, down=(1, "1", answers))
    code, out, err = cloud.train("--config=a.py")
    assert code == 0 and "has not answered five times" in out
    assert "worker 1 failed with exit status 255" in err
    assert len(cloud.asked("queued-resources", "delete")) == 1


def test_refused_requests(cloud):
    cloud.script(refused=9)
    code, _, err = cloud.train("--config=a.py")
    assert code == 1 and "RESOURCE_EXHAUSTED" in err and "given up" in err
    cloud.script(silent=True)
    code, _, err = cloud.train("--config=a.py")
    assert code == 1 and "UNAUTHENTICATED" in err and "gcloud does not answer for one" in err


def test_run_stop_status_and_run_again(cloud):
    cloud.script(acts=("wait",))
    arguments = ["--config=a.py", f"--workdir={WORKDIR}"]
    assert cloud.launch("create", NEW[0])[0] == 0
    code, _, err = cloud.launch("run", arguments=arguments)
    assert code != 0 and "not all workers have started" in err
    assert cloud.launch("setup", NEW[1])[0] == 0
    assert cloud.launch("run", arguments=arguments)[0] == 0
    code, out, _ = cloud.launch("status")
    assert code == 0 and out.count(": running") == 2
    code, _, err = cloud.launch("run", arguments=arguments)
    assert code != 0 and "a run is under way" in err
    code, _, err = cloud.launch("setup", NEW[1])
    assert code != 0 and "is a run under way?" in err
    cloud.wait_for(starts=2)
    assert cloud.launch("stop")[0] == 0
    assert cloud.launch("status")[1].count(": stopped") == 2
    for worker in "01":
        log = (cloud.folder / f"vms/1/{worker}/mlp-mixer/run.log").read_text()
        assert log.splitlines()[1:] == ["training", "saved"]
    assert cloud.launch("delete")[0] == 0
    assert cloud.asked("queued-resources", "delete")[0][5] == "--force"


def test_train_ends_when_the_run_is_stopped_or_deleted_from_elsewhere(cloud):
    cloud.script(workers=1, acts=("wait",))
    training = cloud.start("train", *NEW, arguments=[f"--workdir={WORKDIR}"])
    cloud.wait_for(starts=1)
    assert cloud.launch("stop")[0] == 0
    out, _ = training.communicate(timeout=60)
    assert training.returncode == 0 and "stopped by launch/tpu_vm.sh stop" in out
    training = cloud.start("train", *NEW, arguments=[f"--workdir={WORKDIR}"])
    cloud.wait_for(starts=2)
    assert cloud.launch("delete")[0] == 0
    _, err = training.communicate(timeout=60)
    assert training.returncode == 1 and "one was deleted from elsewhere" in err
    assert len(cloud.asked("queued-resources", "create")) == 1


def test_dry_run_only_prints_commands_for_a_shell(cloud):
    options = (*NEW, "--spot", "--disk=data", "--dry-run")
    code, out, err = cloud.launch("train", *options, arguments=[f"--workdir={WORKDIR}", *ODD])
    assert code == 0, err
    assert not cloud.noted("calls")
    shell = "gcloud() { printf '%s\\0' \"$@\"; }; git() { :; }; tar() { :; }\n"
    words = subprocess.check_output(["bash", "-euc", shell + out], text=True).split("\0")
    assert "--spot" in words
    assert "--data-disk=mode=read-only,source=projects/lab/zones/here-a/disks/data" in words
    (start,) = [word for word in words if "worker.sh start" in word]
    taken = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {start}"], text=True)
    assert taken.split("\0")[3:-1] == [f"--workdir={WORKDIR}", *ODD]
    for command in ("create", "logs", "status", "stop", "delete"):
        code, out, err = cloud.launch(command, *NEW, "--dry-run")
        assert code == 0 and out.startswith("gcloud compute tpus "), err
    assert not cloud.noted("calls")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start"], "unknown command 'start'"),
        (["create", "--nmae=one"], "unknown option '--nmae=one'"),
        (["create", *TPU, "--name=One"], "--name='One': expected lower-case letters"),
        (["create", "--name=one", "--zone=z"], "--project is missing"),
        (["create", "--name=one", "--project=p"], "--zone is missing"),
        (["create", *TPU, "--type=v9-8"], "--type='v9-8': expected v6e-N"),
        (["create", *TPU, "--poll=soon"], "--poll='soon': expected seconds"),
        (["setup", *TPU, "--wheels=wheels"], "--wheels='wheels': expected gs://BUCKET/FOLDER"),
        (["run", *TPU], "main.py's arguments are missing"),
        (["stop", *TPU, "--", "--config=a"], "stop takes no arguments for main.py: '--config=a'"),
        (["train", *TPU, *NEW, "--", "--workdir=runs/a"], "--workdir='runs/a': expected"),
    ],
)
def test_bad_arguments_are_refused(words, message):
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / "tpu_vm.sh"), *words], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_uncommitted_changes_are_refused(cloud):
    (cloud.repository / "requirements.txt").write_text("")
    code, _, err = cloud.launch("setup", NEW[1])
    assert code == 1 and "changes that are not committed: commit or stash them" in err
    assert not cloud.noted("calls")


def test_uv_is_installed_by_its_hash(tmp_path):
    """A worker without uv installs it from the package index, with the hash of one file."""
    code = tmp_path / "mlp-mixer" / "code"
    shutil.copytree(ROOT / "launch", code / "launch")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "cat"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    pip = tmp_path / "bin" / "python3"
    pip.write_text('#!/bin/sh\necho "$@"\n[ "$1 $2 $3" = "-m pip install" ] && cat "$9"\n')
    pip.chmod(0o755)
    done = subprocess.run(
        ["bash", code / "launch" / "worker.sh", "have_uv"],
        env={"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=True,
    )
    asked, *wanted = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert f"--target {tmp_path}/mlp-mixer/uv --require-hashes -r " in asked
    assert len(wanted) == 1 and re.fullmatch(r"uv==[\d.]+ --hash=sha256:[0-9a-f]{64}", wanted[0])


def test_the_scripts_pass_shellcheck():
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # an environment not activated
    shellcheck = shutil.which("shellcheck", path=beside)
    assert shellcheck, "pip install -r requirements-dev.txt"
    files = sorted(map(str, (ROOT / "launch").glob("*.sh")))
    command = [shellcheck, "-x", "-P", "SCRIPTDIR", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
