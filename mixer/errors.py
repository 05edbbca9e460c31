"""Errors that the command prints as one line: value, expected, fix. command.py has exit codes."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_SHOWN = 5  # names of a long list


class BadInput(Exception):
    """The user asks for something that cannot be done. The command prints it and exits with 2.

    It is deliberately not a ValueError, which the flag parser would wrap into a traceback.
    """


class Missing(BadInput):
    """Data that does not exist. An evaluator that is marked optional is then left out."""


class Failure(Exception):
    """A run that cannot go on. The command prints it and exits with 1."""


def command() -> str:
    """The command in messages: `mixer` if installed, `python main.py` in a clone."""
    return "mixer" if Path(sys.argv[0]).name == "mixer" else "python main.py"


def shown(names: Sequence[str]) -> str:
    """The first few of a list of names, with commas between them; names with commas are quoted."""
    first = (repr(name) if "," in name else name for name in names[:_SHOWN])
    return ", ".join(first) + (", ..." if len(names) > _SHOWN else "")


def nearest(value: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that are most similar to `value`, ignoring case; none if none is similar."""
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), lower, n=count, cutoff=0.4)
    return [lower[name] for name in close]


def needs_package(what: str, package: str, extra: str) -> BadInput:
    """A `BadInput`: `what` needs a package that is not installed; `extra` brings it."""
    return BadInput(
        f"{what} needs the package {package}: pip install -r requirements-{extra}.txt (or "
        f"'mlp-mixer-jax[{extra}]')"
    )


def unknown(
    kind: str,
    value: str,
    known: Iterable[str],
    fix: str = "",
    near: Sequence[str] | None = None,
) -> BadInput:
    """A `BadInput` that names the value, its nearest match and all known names.

    Args:
      kind: what is unknown, such as "recipe".
      fix: a sentence to append.
      near: the nearest matches, if they may also come from names that are not listed.
    """
    known = sorted(known)
    close = nearest(value, known, 1) if near is None else near
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    fix = f" {fix}" if fix else ""
    return BadInput(f"unknown {kind} {value!r}.{hint} Known: {', '.join(known) or 'none'}.{fix}")
