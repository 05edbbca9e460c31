"""A run continues when its output is closed: a closed terminal, a pipe without a reader."""

import contextlib
import os
import pty
import signal
import sys

import pytest

from mixer import output
from mixer.signals import StopSignal
from mixer.training.console import Console


@contextlib.contextmanager
def read(opened, monkeypatch):
    """Sends output to a terminal or pipe; yields a function that closes its other end.

    It is no fixture: after one, pytest would restore its own output before the test.
    """
    ours, theirs = opened()
    kept = os.dup(1), os.dup(2)
    try:
        with monkeypatch.context() as patch:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(theirs, number)
                patch.setattr(sys, name, os.fdopen(number, "w", closefd=False))
            os.close(theirs)
            yield lambda: os.close(ours)
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


each_way = pytest.mark.parametrize("opened", [pty.openpty, os.pipe])


@each_way
def test_lines_and_the_bar_after_output_is_closed(opened, monkeypatch):
    with read(opened, monkeypatch) as leave:
        console = Console(10, 0)
        console.tick(1, {"loss": 1.0})
        console.line("step 1")
        leave()
        console.tick(2, {"loss": 1.0})
        console.line("step 2")
        console.close()
        print("done", flush=True)


@each_way
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGUSR1])
def test_a_closed_terminal_after_another_signal(first, opened, monkeypatch):
    with read(opened, monkeypatch) as leave, StopSignal() as stop:
        os.kill(os.getpid(), first)
        leave()
        os.kill(os.getpid(), signal.SIGHUP)
        print("saving", flush=True)
        print("warning", file=sys.stderr, flush=True)
        assert stop.poll() and stop.received == first.name


def test_a_full_disk_raises(monkeypatch):
    # Closing it fails too.
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left"):
            Console(10, 0).line("step 1")
    assert not output.discard_if_closed()
