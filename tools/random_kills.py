"""Kills a run again and again, lets it finish, and compares it with an undisturbed run.

    python tools/random_kills.py --workdir=runs/random_kills

It trains the quickstart once without disturbance. Then it starts the quickstart in another folder
and ends it by kill -9, 30 times in a row: at any moment from the first import on, while it writes a
checkpoint, or during an evaluation. Then it lets the same command finish. It prints a table of the
kills, and whether parameters, optimizer state, metrics.jsonl (except times) and results are equal
bit for bit, and exits with 1 if they are not. After a stop it resumes with the missing kills.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the package need not be installed

from mixer.checkpoint.store import Store  # noqa: E402

EVALUATE, SAVE = 30, 20
# Checkpoints and evaluations are frequent enough for kills to hit them.
OVERRIDES = (
    "--config.model.dropout=0.1",
    "--config.ema_decay=0.99",
    f"--config.evaluators.test.every={EVALUATE} steps",
    f"--config.runtime.checkpoint_every={SAVE} steps",
    "--config.runtime.log_every=10 steps",
)
TIMES = re.compile("images_per_second|data_wait_share|device_days|seconds/|tflops|mfu")


def begin(workdir: Path) -> subprocess.Popen:
    """Starts or resumes the run."""
    command = ["main.py", "--config=configs/quickstart.py", f"--workdir={workdir}", *OVERRIDES]
    with workdir.with_suffix(".txt").open("a") as output:
        return subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )


def finish(workdir: Path) -> float:
    """Runs until the end; returns the seconds it took."""
    started = time.monotonic()
    code = begin(workdir).wait()
    if code or not (workdir / "results.json").exists():
        sys.exit(f"the run in {workdir} ended with {code}: see {workdir.with_suffix('.txt')}")
    return time.monotonic() - started


def newest(workdir: Path) -> int:
    """The step of the newest checkpoint, 0 if there is none."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def logged(workdir: Path) -> list[dict]:
    """The complete lines of metrics.jsonl."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((workdir / "checkpoints").glob("*tmp*"))


def evaluating(workdir: Path) -> bool:
    """Whether an evaluation follows the newest line of metrics.jsonl."""
    last = (logged(workdir) or [{"step": 0}])[-1]
    return last["step"] % EVALUATE == 0 and "train/loss" in last


def kill_once(workdir: Path, rng: random.Random, span: float) -> dict:
    """Starts a session of the run and kills it.

    Args:
      span: seconds within which to kill it.
    """
    aim = rng.choice(("any moment", "a save", "an evaluation"))
    wait, short = rng.uniform(0, span), rng.uniform(0, 0.05)
    here = {"any moment": lambda _: True, "a save": saving, "an evaluation": evaluating}[aim]
    known = len(logged(workdir))
    process, started = begin(workdir), time.monotonic()
    while process.poll() is None:
        # Files of the previous session do not count.
        begun = aim == "any moment" or len(logged(workdir)) != known
        if time.monotonic() - started > wait and begun and here(workdir):
            break
        time.sleep(0.001)
    time.sleep(short)
    process.kill()
    if (code := process.wait()) >= 0:
        sys.exit(f"it ended by itself, with {code}, before a kill: {workdir.with_suffix('.txt')}")
    lines = logged(workdir)
    return {
        "aim": aim,
        "seconds": round(time.monotonic() - started, 2),
        "logged": lines[-1]["step"] if lines else 0,
        "checkpoint": newest(workdir),
        "saving": saving(workdir),
    }


def final(workdir: Path) -> tuple[dict, list, dict]:
    """(arrays, lines of metrics.jsonl without times, metrics of results.json) of a complete run."""
    with Store(str(workdir / "checkpoints"), read_only=True) as store:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        step = store.steps()[-1]
        names = {"params", "opt_state", "ema"} & set(os.listdir(f"{workdir}/checkpoints/{step}"))
        arrays = store.restore(step, {n: store.abstract(step, n, here) for n in sorted(names)})
    lines = [{k: v for k, v in line.items() if not TIMES.match(k)} for line in logged(workdir)]
    results = json.loads((workdir / "results.json").read_text())
    return jax.device_get(arrays), lines, results["metrics"]


def differences(ours: Path, theirs: Path) -> list[str]:
    """What differs between two complete runs, compared bit for bit."""
    mine, other = final(ours), final(theirs)
    found = []
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(mine[0]), jax.tree.leaves(other[0]), strict=True
    ):
        if a.dtype != b.dtype or np.asarray(a).tobytes() != np.asarray(b).tobytes():
            found.append(jax.tree_util.keystr(path))
    if mine[1] != other[1]:
        found.append("metrics.jsonl")
    if mine[2] != other[2]:
        found.append("results.json")
    return found


def table(kills: list[dict]) -> str:
    """A Markdown table of the kills."""
    rows = ["| kill | aimed at | after, s | logged | checkpoint | while saving |"]
    rows.append("| ---: | --- | ---: | ---: | ---: | --- |")
    for i, kill in enumerate(kills, 1):
        rows.append(
            f"| {i} | {kill['aim']} | {kill['seconds']} | {kill['logged']} | {kill['checkpoint']} "
            f"| {'yes' if kill['saving'] else ''} |"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    peace, killed = args.workdir / "undisturbed", args.workdir / "killed"
    record = args.workdir / "kills.json"
    state = json.loads(record.read_text()) if record.exists() else {"kills": []}
    if "seconds" not in state:
        print(f"undisturbed: {peace}", flush=True)
        state["seconds"] = finish(peace)
    kills = state["kills"]
    rng = random.Random(f"{args.seed}/{len(kills)}")
    while len(kills) < args.kills:
        record.write_text(json.dumps(state, indent=1))
        # The time of the start, and twice the part of the training that each session should do.
        trained = json.loads((peace / "results.json").read_text())["seconds"]
        span = state["seconds"] - trained + 2 * trained / args.kills
        kills.append(kill_once(killed, rng, span))
        print(f"{len(kills)}: {kills[-1]}", flush=True)
    record.write_text(json.dumps(state, indent=1))
    if not (killed / "results.json").exists():
        finish(killed)
    print(table(kills))
    found = differences(killed, peace)
    print(f"after {len(kills)} kills: {', '.join(found) + ' differ' if found else 'bit-identical'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
