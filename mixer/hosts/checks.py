"""The doctor's checks of one host: packages, devices, data, workdir, disk space, memory."""

import contextlib
import dataclasses
import importlib.metadata
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import psutil
from etils import epath

from mixer import errors
from mixer.hosts import devices, peers, sharing, software

MAX_CLOCK_SKEW = 5.0  # seconds
_OLDEST_PYTHON = (3, 11)
_PACKAGES = (*software.VERSIONED, "libtpu")
_REQUIREMENTS = {"TPU": "requirements-tpu.txt", "NVIDIA GPU": "requirements-cuda.txt"}
_SHARED_MEMORY = Path("/dev/shm")


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a run needs of a host. Each function returns what it found, or raises.

    Attributes:
      workdir: opens the workdir.
      config: () -> a short digest of the config, which must be equal on all hosts.
      decoder: () -> what decodes JPEGs, in words.
      layout: () -> how the run is laid out on the devices, in words.
      data: by purpose, a function that reads the first example from where the data is stored.
      stage: opens the training data through `config.input.stage`; None without staging.
      training: builds the training, and gives it in words; None for a run without steps.
      rate: () -> how many training images this host makes in a second, and the same in words.
      checkpoint_bytes: () -> approximate size of a checkpoint.
      checkpoints: how many checkpoints the workdir holds at a time.
      batch_bytes, shared_bytes: size of this process's batches in memory and in /dev/shm.
    """

    workdir: Callable[[], epath.Path]
    config: Callable[[], str]
    decoder: Callable[[], str]
    layout: Callable[[], str]
    data: dict[str, Callable[[], str]]
    stage: Callable[[], object] | None
    training: Callable[[], str] | None
    rate: Callable[[], tuple[float, str]]
    checkpoint_bytes: Callable[[], int]
    checkpoints: int
    batch_bytes: int
    shared_bytes: int


class Checks:
    """The checks of this host. Each returns what it found, or raises with the problem and its fix.

    Args:
      output: the --workdir.
      token: identifies this invocation; the same on all hosts.
      index: number of this host.
      accelerator: the machine's `devices.accelerator()`.
    """

    def __init__(
        self,
        needs: Needs,
        output: str,
        token: str,
        index: int,
        accelerator: str | None,
    ):
        self._needs, self._output = needs, output
        self._token, self._index, self._accelerator = token, index, accelerator

    def findings(self) -> dict[str, tuple[bool, str]]:
        """{check: (passed, what it found)}. Leaves a file in the workdir, which `clean` removes."""
        checks = {
            "python": _python,
            "packages": self._packages,
            "devices": self._devices,
            "code": self._code,
            "config": self._needs.config,
            "layout": self._needs.layout,
            "workdir": self._workdir,
            "space": self._space,
            "memory": self._memory,
        }
        checks |= {f"data, {name}": read for name, read in self._needs.data.items()}
        if self._needs.stage:
            checks["staging"] = self._stage
        return {name: _attempt(check) for name, check in checks.items()}

    def training(self, findings: dict[str, tuple[bool, str]]) -> tuple[bool, str] | None:
        """Whether the training can be built: its optimizer, loss, transforms and evaluators.

        None if one of the `findings` is that it cannot be tried.
        """
        needed = [name for name in findings if name == "layout" or name.startswith("data, ")]
        possible = self._needs.training and all(findings[name][0] for name in needed)
        return _attempt(self._needs.training) if possible else None

    def input(self, findings: dict[str, tuple[bool, str]]) -> tuple[bool, Any] | None:
        """(True, what `Needs.rate` returns), or (False, the problem).

        None if one of the `findings` is that this cannot be measured.
        """
        needed = ("layout", "memory", "data, training")
        return _attempt(self._needs.rate) if all(findings[name][0] for name in needed) else None

    def sees_all(self, hosts: int) -> bool:
        """Whether this host sees the files that all hosts left in the workdir."""
        try:
            return all(sharing.visible([self._probe(host) for host in range(hosts)]))
        except errors.BadInput:
            return False

    def clean(self) -> None:
        """Removes this host's file from the workdir."""
        with contextlib.suppress(errors.BadInput, OSError):
            self._probe(self._index).unlink(missing_ok=True)

    def _code(self) -> str:
        return f"commit {(software.commit() or 'unknown')[:12]}, files {software.code()}"

    def _packages(self) -> str:
        versions = {}
        for name in _PACKAGES:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        if self._accelerator == "TPU" and "libtpu" not in versions:
            raise errors.Failure("no libtpu on a TPU: pip install -r requirements-tpu.txt")
        found = [f"{name} {version}" for name, version in versions.items()]
        return ", ".join([*found, f"JPEGs: {self._needs.decoder()}"])

    def _devices(self) -> str:
        found = jax.devices()
        if found[0].platform == "cpu" and self._accelerator:
            platforms = jax.config.jax_platforms
            requirements = _REQUIREMENTS[self._accelerator]
            fix = f"pip install -r {requirements}, and end other processes that use it"
            raise errors.Failure(
                f"JAX sees only the CPU on a machine with a {self._accelerator}: "
                + (f"unset JAX_PLATFORMS={platforms}" if platforms else fix)
            )
        devices.check_process_count(peers.count())
        return f"{len(found)} {found[0].device_kind}, {jax.local_device_count()} on each host"

    def _folder(self) -> epath.Path:
        return sharing.nearest(self._needs.workdir())

    @property
    def _is_remote(self) -> bool:
        return "://" in self._output

    def _probe(self, host: int) -> epath.Path:
        return self._folder() / f".doctor.{self._token}.{host}"

    def _workdir(self) -> str:
        folder, probe = self._folder(), self._probe(self._index)
        if not self._is_remote and not folder.is_dir():
            raise errors.Failure(f"--workdir={self._output}: {folder} is a file; use a folder")
        began = time.time()
        try:
            probe.write_text(self._token)
            written, ended = probe.stat().mtime, time.time()
        except Exception as error:  # object stores have error classes of their own
            raise errors.Failure(
                f"--workdir={self._output} cannot be written: {error}. Use another, or give this "
                f"account permission to write there"
            ) from None
        # Object stores may give whole seconds, or no time at all (0).
        skew = max(began - 1 - written, written - ended, 0) if written else 0
        if skew > MAX_CLOCK_SKEW:
            raise errors.Failure(
                f"the clocks of {folder} and of this machine are {skew:,.0f} s apart: set both by "
                f"NTP"
            )
        return f"{self._output} can be written"

    def _space(self) -> str:
        count = self._needs.checkpoints
        needed = count * self._needs.checkpoint_bytes()
        text = f"{count} checkpoints take about {_gigabytes(needed)}"
        if self._is_remote:
            return text
        free = shutil.disk_usage(self._folder()).free
        if free < needed:
            raise errors.Failure(
                f"{text}, and {self._output} has {_gigabytes(free)} free: free some space, use "
                f"another --workdir, or lower config.runtime.keep_checkpoints"
            )
        return f"{text} of {_gigabytes(free)} free"

    def _memory(self) -> str:
        # A checkpoint is copied to the memory of the host before it is written.
        needed = self._needs.batch_bytes + self._needs.checkpoint_bytes()
        free = psutil.virtual_memory().available
        text = f"batches and a checkpoint take about {_gigabytes(needed)} of {_gigabytes(free)}"
        if free < needed:
            raise errors.Failure(
                f"{text} free: end other processes, or use a smaller batch or a larger machine"
            )
        shared = self._needs.shared_bytes
        if not shared or not _SHARED_MEMORY.exists():
            return f"{text} free"
        free = shutil.disk_usage(_SHARED_MEMORY).free
        text += f", worker processes {_gigabytes(shared)} of {_gigabytes(free)} in {_SHARED_MEMORY}"
        if free < shared:
            raise errors.Failure(
                f"{text}: enlarge it (mount -o remount,size=..., docker run --shm-size=...), or "
                f"lower config.runtime.workers"
            )
        return text

    def _stage(self) -> str:
        self._needs.stage()
        return "there is room for the copies"


def _attempt(check: Callable[[], Any]) -> tuple[bool, Any]:
    try:
        return True, check()
    except Exception as error:  # of any kind: the other checks go on
        return False, (str(error).strip() or repr(error)).splitlines()[0]


def _python() -> str:
    if sys.version_info[:2] < _OLDEST_PYTHON:
        raise errors.Failure(f"{platform.python_version()}, expected 3.11 or later")
    return platform.python_version()


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"
