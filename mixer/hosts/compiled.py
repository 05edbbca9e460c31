"""Keeps compiled programs on disk, so that a restarted run does not compile them again."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax

from mixer import storage

_MAX_BYTES = 8 * 2**30
# Programs that compile faster than this are not worth a file.
_MIN_SECONDS = 0.1


def keep() -> None:
    """Makes JAX read and write compiled programs in the user's cache folder.

    $JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false turns it
    off. Of several processes JAX lets only the first write, so hosts need a shared folder to gain
    from it. A folder that cannot be written is said in a line.
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    folder = storage.cache_folder() / "compiled" / _machine()
    try:
        # JAX runs what it finds there: nobody else may write to it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_oldest(folder, _MAX_BYTES)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        print(
            f"compiled programs are not kept: {folder} cannot be written; $MIXER_CACHE names "
            f"another folder",
            flush=True,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)


def remove_oldest(folder: Path, max_bytes: int) -> None:
    """Removes the files that were not used for longest, until the others fit in `max_bytes`."""
    files = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            files.append((file, file.stat()))
    excess = sum(stat.st_size for _, stat in files) - max_bytes
    for file, stat in sorted(files, key=lambda each: max(each[1].st_atime, each[1].st_mtime)):
        if excess <= 0:
            return
        file.unlink(missing_ok=True)
        excess -= stat.st_size


def _machine() -> str:
    """Names this kind of CPU: XLA uses its instructions, and JAX's keys do not contain it."""
    features = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        features += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(features.encode()).hexdigest()[:16]
