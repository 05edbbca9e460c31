"""Errors that are said in one line: the value, what was expected, the fix."""

import difflib
from collections.abc import Iterable, Sequence

_SHOWN = 5  # of a long list


class BadInput(Exception):
    """The command asks for something that cannot be done; `main.py` prints it and exits with 2.

    It is not a ValueError on purpose: the flag parser wraps those into tracebacks of its own.
    """


class Missing(BadInput):
    """Data that are not there; what is marked optional goes without."""


class Failure(Exception):
    """A run that cannot go on, said in one line; `main.py` prints it and exits with 1."""


def shown(names: Sequence[str]) -> str:
    """The first of a list of names; one that holds a comma stands in quotes."""
    first = (repr(name) if "," in name else name for name in names[:_SHOWN])
    return ", ".join(first) + (", ..." if len(names) > _SHOWN else "")


def unknown(kind: str, value: str, known: Iterable[str], fix: str = "") -> BadInput:
    """A `BadInput` that names the value, its nearest match and all that is known."""
    known = sorted(known)
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.4)
    hint = f" Did you mean {lower[close[0]]!r}?" if close else ""
    fix = f" {fix}" if fix else ""
    return BadInput(f"unknown {kind} {value!r}.{hint} Known: {', '.join(known) or 'none'}.{fix}")
