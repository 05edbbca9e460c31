"""A stand-in for programs of a worker: `uv`, the `pip` of its environments, `python main.py`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

HERE = Path(os.environ["STAND_IN"])


def note(name, *words):
    with (HERE / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(words) + "\n")


def uv(words):
    note("uv", *words)
    if words[0] == "venv":
        (Path(words[-1]) / "bin").mkdir(parents=True)
        for name in ("python", "pip"):
            (Path(words[-1]) / "bin" / name).symlink_to(HERE / "bin" / name)
    else:
        venv, wheels = (words[words.index(o) + 1] for o in ("--python", "--find-links"))
        (Path(venv) / "installed").write_text(" ".join(sorted(os.listdir(wheels))))


def pip(words):
    note("pip", *words)
    count = len((HERE / "pip.jsonl").read_text().splitlines())
    folder = Path(words[words.index("--wheel-dir") + 1])
    folder.mkdir()
    (folder / f"jax-0.{count}-py3-none-any.whl").write_text("")


def starts(worker):
    """How often main.py was started on this worker, not counting the doctor."""
    noted = map(json.loads, (HERE / "main.jsonl").read_text().splitlines())
    return sum(words[1] == worker and "--config.run=doctor" not in words for words in noted)


def main_py(words):
    """Does what script.json says for this start on this worker, once all workers have started."""
    signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(0)))
    worker = Path(os.environ["HOME"]).name
    note("main", os.environ["LIFE"], worker, *words)
    if "--config.run=doctor" in words:
        return
    script = json.loads((HERE / "script.json").read_text())
    start = starts(worker)
    while any(starts(str(other)) < start for other in range(script["workers"])):
        time.sleep(0.01)
    act = script["acts"][min(start, len(script["acts"])) - 1]
    act = act.get(worker, act["*"]) if isinstance(act, dict) else act
    workdir = next(word for word in words if word.startswith("--workdir=")).partition("=")[2]
    folder = HERE / "buckets" / workdir.removeprefix("gs://")
    if act == "complete":
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text("{}")
    elif act == "save":
        (folder / f"checkpoints/{start}").mkdir(parents=True)
        (folder / f"checkpoints/{start}/commit_success.txt").write_text("")
        sys.exit(1)
    elif isinstance(act, int):
        print("error: it fails")
        sys.exit(act)
    else:
        print("training", flush=True)
        time.sleep(60)


{"uv": uv, "pip": pip, "python": main_py}[sys.argv[1]](sys.argv[2:])
