"""Versions of the code and of the packages that determine a run's numbers."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """{package: version} of the packages that determine the numbers."""
    return {name: metadata.version(name) for name in VERSIONED}


def code() -> str:
    """A short hash of this project's Python files."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted([*root.glob("mixer/**/*.py"), *root.glob("configs/*.py")]):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str | None:
    """The commit that is checked out; None without git and for an installed package."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    # An installed package may be inside the repository of another project, which does not track it.
    ours = [*git, "ls-files", "--error-unmatch", here.name]
    try:
        for command in (ours, [*git, "rev-parse", "HEAD"]):
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.strip()
