"""Which of the processes of a run this is."""

from mixer.hosts import runtime


def count() -> int:
    """How many processes the run has."""
    return runtime.processes()


def index() -> int:
    """Which of them this is, from 0: the one that writes and prints."""
    return runtime.index()


def name() -> str:
    """Such as "process 1 of 4", for messages."""
    return f"process {index()} of {count()}"
