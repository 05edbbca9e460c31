"""Starts main.py as a user does."""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ASKING = threading.Lock()
# As in conftest.py: most of the time of such short runs is the compiler's.
QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def environment(data_dir, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    # One device, as on a laptop; the tests' own processes have eight.
    env["XLA_FLAGS"] = QUICK_COMPILER
    return env | {"TFDS_DATA_DIR": str(data_dir)} | more


class Forked:
    """The part of `subprocess.Popen` that tests use, for a process forked by `imported.py`."""

    def __init__(self, arguments, env):
        pipes = [os.pipe() for _ in range(3)]
        # Read when JAX and Python start: other values need another process to fork from.
        first = {k: v for k, v in env.items() if k.startswith(("JAX_", "XLA_", "PYTHON"))}
        request = json.dumps([env, arguments]).encode()
        with _ASKING:
            asked = _imported(tuple(sorted(first.items())))
            socket.send_fds(asked, [request], [write for _, write in pipes])
            self.pid = int(asked.recv(100))
        for _, write in pipes:
            os.close(write)
        self.stdout, self.stderr = (open(read) for read, _ in pipes[:2])  # noqa: SIM115
        self._ended = pipes[2][0]
        self.args, self.returncode = arguments, None

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(os.read(self._ended, 100))
            os.close(self._ended)
        return self.returncode

    def communicate(self, timeout=None):
        end = None if timeout is None else time.monotonic() + timeout
        said = {}

        def read(name):
            with getattr(self, name) as file:
                said[name] = file.read()

        readers = [threading.Thread(target=read, args=(n,)) for n in ("stdout", "stderr")]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(None if end is None else max(1, end - time.monotonic()))
        return said["stdout"], said["stderr"]

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@functools.cache
def _imported(env):
    """The socket of a process that has imported everything."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("imported.py"), str(theirs.fileno())],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
            | dict(env)
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), dict(env).get("PYTHONPATH", "")])},
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,  # as those of a run here are pipes
            stderr=subprocess.PIPE,
        )
    atexit.register(process.kill)
    return ours


def start(data_dir, config, workdir, *overrides, **more):
    """Starts a process; its output is a pipe of lines."""
    arguments = [f"--config={config}", f"--workdir={workdir}", *overrides]
    return Forked(arguments, environment(data_dir, **more))


def run(data_dir, config, workdir, *overrides, **more):
    """Runs a process to its end: (exit code, standard output, standard error)."""
    process = start(data_dir, config, workdir, *overrides, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def start_all(count, devices, data_dir, config, workdir, *overrides, **more):
    """Starts `count` processes of one run, which share `devices` CPU devices."""
    flags = several(count)
    flag = f"--xla_force_host_platform_device_count={devices // count}"
    more |= {"XLA_FLAGS": f"{QUICK_COMPILER} {flag}"}
    return [start(data_dir, config, workdir, *overrides, *flags[i], **more) for i in range(count)]


def several(count):
    """The flags of each of `count` processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = (f"--coordinator=localhost:{port}", f"--num_processes={count}")
    return [(*both, f"--process_id={i}") for i in range(count)]


def write_spy(folder, seen):
    """Writes spy.py: its transform `watch` makes the file `seen` in a worker that has no JAX."""
    (folder / "spy.py").write_text(
        "import multiprocessing, sys, mixer\n"
        "def watch(image, rng):\n"
        "    if multiprocessing.parent_process() is not None:\n"
        "        assert sys.modules.get('jax') is None, 'a worker has imported JAX'\n"
        f"        open({str(seen)!r}, 'a').close()\n"
        "    return image\n"
        "mixer.register_transform('watch', lambda: watch)\n"
    )
