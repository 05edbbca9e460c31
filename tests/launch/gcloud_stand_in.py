"""A stand-in for `gcloud`: it records its calls, plays a TPU's states, runs ssh's commands here.

Everything lies in $STAND_IN: calls.jsonl, script.json (what is to happen), buckets/ (gs://), and
vms/LIFE/WORKER, the home folder of each worker of the LIFE-th TPU.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(os.environ["STAND_IN"])


def option(name):
    return next((a.partition("=")[2] for a in sys.argv if a.startswith(f"--{name}=")), None)


def refuse(message, code=1):
    print(f"ERROR: (gcloud) {message}", file=sys.stderr)
    sys.exit(code)


def homes(life):
    return sorted((HERE / "vms" / str(life)).iterdir())


def vanish(life):
    """Removes the machines, with all that runs on them."""
    for home in homes(life):
        pid = home / "mlp-mixer" / "run.pid"
        if pid.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)


def queued(action, state, script):
    life, name = state["life"], sys.argv[5]
    if action == "create":
        if state["there"]:
            refuse("ALREADY_EXISTS")
        if script.get("refused", 0) > state["refused"]:
            state["refused"] += 1
            refuse("RESOURCE_EXHAUSTED: quota")
        state.update(there=True, life=life + 1, looks=0)
        for worker in range(script["workers"]):
            (HERE / "vms" / str(life + 1) / str(worker)).mkdir(parents=True)
        return
    if script.get("silent"):
        refuse("UNAUTHENTICATED: login first")
    if not state["there"]:
        refuse(f"NOT_FOUND: Resource '{name}' was not found")
    if action == "delete":
        vanish(life)
        state["there"] = False
        return
    states = script["lives"][min(life, len(script["lives"])) - 1]
    now = states[min(state["looks"], len(states) - 1)]
    state["looks"] += 1
    if now in ("SUSPENDING", "SUSPENDED"):
        vanish(life)
    print(now)


def falls_silent(home, life, its_life, name, answers):
    """Whether this worker has already given its status `answers` times."""
    counted = home / "answers"
    before = int(counted.read_text()) if counted.exists() else 0
    counted.write_text(str(before + 1))
    return (life, home.name) == (its_life, name) and before >= answers


def on_workers(command, state, script):
    print("Using ssh batch size of 1.", file=sys.stderr)
    worker, code = option("worker"), 0
    for home in homes(state["life"]):
        if worker not in ("all", home.name):
            continue
        if "status" in command and falls_silent(
            home, state["life"], *script.get("down", (0, "", 0))
        ):
            status = 255
        else:
            env = os.environ | {"HOME": str(home), "LIFE": str(state["life"])}
            status = subprocess.run(["bash", "-c", command], cwd=home, env=env).returncode
        if status:
            said = f"Command execution on worker {home.name} failed with exit status {status}."
            print(f"##### {said} Continuing.", file=sys.stderr)
            code = code or status
    sys.exit(code)


def local(url):
    return HERE / "buckets" / url.removeprefix("gs://") if url.startswith("gs://") else Path(url)


def storage(action, *places):
    if action == "ls":
        path = local(places[0])
        root = HERE / "buckets"
        found = sorted(root.glob(str(path.relative_to(root)))) if "*" in str(path) else [path]
        found = [path for path in found if path.exists()]
        for path in found:
            print(path)
        sys.exit(0 if found else 1)
    *origins, target = places
    for origin in origins:
        files = local(origin).parent.glob(local(origin).name)
        for file in files:
            copy = local(target) / file.name if target.endswith("/") else local(target)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)


def main():
    with (HERE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    script = json.loads((HERE / "script.json").read_text())
    kept = HERE / "state.json"
    state = {"there": False, "life": 0, "looks": 0, "refused": 0}
    if kept.exists():
        state = json.loads(kept.read_text())
    words = sys.argv[1:]
    if words[0] == "storage":
        storage(*words[1:])
    elif words[2] == "queued-resources":
        try:
            queued(words[3], state, script)
        finally:
            kept.write_text(json.dumps(state))
    elif words[3] == "describe":
        print("READY")
    elif words[3] == "scp":
        for home in homes(state["life"]):
            shutil.copy(words[4], home / words[5].partition(":")[2])
    else:
        on_workers(option("command"), state, script)


main()
