"""Makes a disk call fail in a short run, then runs the same command again (Linux only).

    python tools/disk_faults.py --workdir=runs/disk_faults --trials=200

It counts the calls by which a run of a few steps (the quickstart with a model of one layer, which
first writes its data) changes its disk. Each trial is such a run in which one of these calls fails
with ENOSPC (a full disk) or EIO (a broken disk); with --lasting all later calls fail too. It
checks, and prints in a table, that

- the run ends in time, with one line that names what failed, or the fault does it no harm;
- the same command then completes it, bit-identical to an undisturbed run, with no files left over.

It exits with 1 otherwise. Trials are drawn at random, by --seed, from all calls and both errors.
After a stop it resumes with the missing trials. It needs a C compiler for failing_disk.c.
"""

import argparse
import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the package need not be installed

from flax import linen as nn  # noqa: E402

from mixer.models.registry import register_model  # noqa: E402

OVERRIDES = (
    "--config.optimizer.name=sgd",
    "--config.best=test/top1",
    "--config.total=2 steps",
    "--config.schedule.warmup=1 steps",
    "--config.evaluators.test.every=1 steps",
    "--config.runtime.checkpoint_every=1 steps",
    "--config.runtime.log_every=1 steps",
)
ERRORS = ("ENOSPC", "EIO")
TIMEOUT = 20  # seconds within which a run must end after a fault
LEFT_OVER = ("*.incomplete", "*tmp*", "replaced", "damaged")


class OneLayer(nn.Module):
    """The smallest trainable model: few arrays make few calls, so that all of them can be tried."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train: bool = False):
        return nn.Dense(self.num_classes, name="head")(images.mean(axis=(1, 2)))


register_model("one-layer", OneLayer)


def command(folder: Path) -> list[str]:
    """The command of a run with its workdir and data below `folder`."""
    return [
        "main.py",
        "--config=configs/quickstart.py:one-layer,smoke",
        f"--workdir={folder}/run",
        *OVERRIDES,
    ]


def in_child(folder: Path, do, seconds: float, **environment: str) -> tuple[int | None, str]:
    """Calls `do()` in a fork of this process, which has imported everything already.

    Returns:
      (exit code, standard error). The code is None if it was killed after `seconds`.
    """
    said = folder.with_suffix(".stderr")
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.environ.update(environment)
        for number, file in ((1, folder.with_suffix(".stdout")), (2, said)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.exit(do())
    end = time.monotonic() + seconds
    code = None
    while code is None and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        time.sleep(0.01)
    if code is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return code, said.read_text()


def run(folder: Path, seconds: float = 600, **environment: str) -> tuple[int | None, str]:
    """Starts or resumes the run in `folder`."""

    def do() -> int:
        import main

        sys.argv = command(folder)  # the config flags are read from here
        return main.main()

    return in_child(folder, do, seconds, TFDS_DATA_DIR=str(folder / "data"), **environment)


def calls(log: Path) -> list[tuple[float, str, str]]:
    """(seconds since 1970, call, path) of each line that failing_disk.c wrote."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(float(at), *rest) for at, *rest in (line.split(" ", 2) for line in lines)]


def finish(folder: Path, peace: Path) -> list[str]:
    """Runs the command again; returns what is wrong with its end or with the files it leaves."""

    def do() -> int:
        import main
        from tools import random_kills

        sys.argv = command(folder)
        code = main.main()
        if code == 0 and (differing := random_kills.differences(folder / "run", peace / "run")):
            print("differs:", *differing, file=sys.stderr)
        return code

    code, said = in_child(folder, do, 600, TFDS_DATA_DIR=str(folder / "data"))
    found = [f"the same command again ended with {code}: {said[-500:]}"] if code or said else []
    for pattern in LEFT_OVER:
        found += [f"left over: {path.relative_to(folder)}" for path in folder.rglob(pattern)]
    return found


def trial(folder: Path, peace: Path, fault: list, lasting: bool) -> dict:
    """Does one trial; `wrong` in the result lists the violations.

    Args:
      fault: (ERROR, CALL, PATH): call number CALL, counted among those whose path in `folder`
        begins with PATH, fails with ERROR.
    """
    error, call, begins = fault
    shutil.rmtree(folder, ignore_errors=True)
    if begins.startswith("run"):
        shutil.copytree(peace / "data", folder / "data")
    log = folder.with_suffix(".calls")
    log.unlink(missing_ok=True)
    failing = {
        "DISK_BELOW": f"{folder}/{begins}",
        "DISK_CALL": str(call),
        "DISK_ERRNO": str(getattr(errno, error)),
        "DISK_LOG": str(log),
    }
    if lasting:
        failing["DISK_LASTING"] = "1"
    code, said = run(folder, **failing)
    took = time.time() - calls(log)[0][0] if log.exists() else 0.0
    result = {"fault": fault, "code": code, "said": said.strip(), "wrong": []}
    if log.exists():
        _, name, path = calls(log)[0]
        result |= {"name": name, "path": str(Path(path).relative_to(folder))}
    lines = said.strip().splitlines()
    if code not in (0, 1, 2):
        result["wrong"].append("hangs" if code is None else f"exit code {code}")
    elif code and took > TIMEOUT:
        result["wrong"].append(f"ended {took:.0f} s after the fault")
    if code and (len(lines) != 1 or not lines[0].startswith("error: ")):
        result["wrong"].append(f"{len(lines)} lines instead of one")
    if code and lines and str(folder) not in lines[-1]:
        result["wrong"].append("names no file")
    if code == 0 and lines:
        result["wrong"].append("complete, with lines on standard error")
    result["wrong"] += finish(folder, peace)
    return result


def table(trials: list[dict]) -> str:
    """A Markdown table: which calls failed where, and how many trials ended in a line or wrong."""
    kinds = Counter(), Counter(), Counter()
    for each in trials:
        kind = (each.get("name", "none"), place(each.get("path", "")))
        kinds[0][kind] += 1
        kinds[1][kind] += bool(each["code"])
        kinds[2][kind] += bool(each["wrong"])
    rows = [
        "| call | below | trials | ended in a line | wrong |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for kind in sorted(kinds[0]):
        rows.append(f"| {kind[0]} | {kind[1]} | " + " | ".join(str(k[kind]) for k in kinds) + " |")
    return "\n".join(rows)


def place(path: str) -> str:
    """The part of the run's folder that a path is in."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if "checkpoints" in parts or "data" in parts else "/".join(parts[:1])


def prepare(workdir: Path) -> None:
    """Restarts this program with the failing disk loaded, and imports what a run imports."""
    library = workdir / "failing_disk.so"
    if os.environ.get("LD_PRELOAD") != str(library):
        compiler = shutil.which("cc") or shutil.which("gcc") or sys.exit("a C compiler is missing")
        source = Path(__file__).with_name("failing_disk.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        compiled = {
            "JAX_COMPILATION_CACHE_DIR": str(workdir / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
        }
        environment = os.environ | compiled | {"LD_PRELOAD": str(library)}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    import sklearn.datasets  # noqa: F401

    import main  # noqa: F401
    from mixer.runs import train  # noqa: F401
    from tools import random_kills  # noqa: F401


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lasting", action="store_true", help="all later calls fail too")
    parser.add_argument("--faults", default="", help="ERROR:CALL:PATH,... instead of random ones")
    args = parser.parse_args()
    workdir = args.workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    prepare(workdir)
    os.chdir(ROOT)
    peace, log = workdir / "undisturbed", workdir / "all.calls"
    if not (peace / "run" / "results.json").exists():
        shutil.rmtree(peace, ignore_errors=True)
        log.unlink(missing_ok=True)
        code, said = run(peace, DISK_BELOW=f"{peace}/", DISK_CALL="0", DISK_LOG=str(log))
        if code:
            sys.exit(f"the undisturbed run ended with {code}: {said}")
    known = calls(log)
    print(f"{len(known)} calls: {dict(Counter(name for _, name, _ in known))}", flush=True)
    record = workdir / ("lasting.jsonl" if args.lasting else "once.jsonl")
    trials = []
    with contextlib.suppress(FileNotFoundError):
        trials = [json.loads(line) for line in record.read_text().splitlines()]
    drawn = [
        [error, call, f"{below}/"]
        for below in ("data", "run")
        for call in range(1, 1 + sum(f"{peace}/{below}" in path for _, _, path in known))
        for error in ERRORS
    ]
    random.Random(args.seed).shuffle(drawn)
    if args.faults:
        chosen = [fault.split(":") for fault in args.faults.split(",")]
        drawn = [[error, int(call), begins] for error, call, begins in chosen]
    done = [each["fault"] for each in trials]
    for fault in drawn[: args.trials]:
        if fault in done:
            continue
        trials.append(trial(workdir / "trial", peace, fault, args.lasting))
        with record.open("a") as file:
            file.write(json.dumps(trials[-1]) + "\n")
        print(f"{len(trials)}: {trials[-1]}", flush=True)
    print(table(trials))
    wrong = sum(bool(each["wrong"]) for each in trials)
    print(f"{len(trials)} trials, {wrong} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
