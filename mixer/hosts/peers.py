"""The number of processes of a run, and which one this is."""

from mixer.hosts import runtime


def count() -> int:
    """The number of processes of this run."""
    return runtime.processes()


def index() -> int:
    """The number of this process, from 0. Process 0 writes files and prints."""
    return runtime.index()


def name() -> str:
    """This process in messages, such as "process 1 of 4"."""
    return f"process {index()} of {count()}"
