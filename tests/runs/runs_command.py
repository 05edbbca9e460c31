"""Starts main.py as a user does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(data_dir, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    # One device, as on a laptop; the tests' own processes have eight.
    env["XLA_FLAGS"] = ""
    # What one run has compiled, the next of the same shapes reads.
    env["JAX_COMPILATION_CACHE_DIR"] = str(data_dir.parent / "compiled")
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return env | {"TFDS_DATA_DIR": str(data_dir)} | more


def start(data_dir, config, workdir, *overrides, **more):
    """The running process; its output is a pipe of lines."""
    return subprocess.Popen(
        [sys.executable, "main.py", f"--config={config}", f"--workdir={workdir}", *overrides],
        cwd=ROOT,
        env=environment(data_dir, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(data_dir, config, workdir, *overrides, **more):
    """The finished process: (exit code, standard output, standard error)."""
    process = start(data_dir, config, workdir, *overrides, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def together(count, devices, data_dir, config, workdir, *overrides, **more):
    """So many processes of one run, which share this number of devices."""
    flags = several(count)
    more |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // count}"}
    return [start(data_dir, config, workdir, *overrides, *flags[i], **more) for i in range(count)]


def several(count):
    """The flags of each of so many processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = (f"--coordinator=localhost:{port}", f"--num_processes={count}")
    return [(*both, f"--process_id={i}") for i in range(count)]
