"""Signals from a machine, a scheduler or a user that stop a run."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mixer import signals
from mixer.signals import StopSignal

ROOT = Path(__file__).parents[1]


def test_the_first_signal_sets_a_flag_and_the_second_interrupts(capfd):
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert not stop.poll()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop  # only a poll changes it
        assert stop.poll() and stop and stop.received == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert "once more" in capfd.readouterr().out


@pytest.mark.parametrize("number", signals.STOPS)
def test_each_signal_stops_after_the_step(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        os.kill(os.getpid(), number)
        assert stop.poll() and stop.received == number.name
    assert signal.getsignal(number) is before


def test_ctrl_c_during_the_imports_is_one_line():
    code = (
        "import os, signal, sys\n"
        "from mixer import signals\n"
        "usual = signal.default_int_handler if sys.argv[1] == 'usual' else signal.SIG_IGN\n"
        "signal.signal(signal.SIGINT, usual)\n"
        "with signals.leaving_at_once():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException:\n"  # as some packages do
        "        print('ignored')\n"
        "print(signal.getsignal(signal.SIGINT) == usual)\n"
    )

    def outcome(handler):
        command = [sys.executable, "-c", code, handler]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    assert outcome("usual") == (1, "", "error: interrupted before the run began\n")
    assert outcome("ignored") == (0, "True\n", "")  # as under nohup
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with signals.leaving_at_once():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_ignore_the_signals():
    worker = (
        "import os\n"
        "from mixer import signals\n"
        "signals.leave_to_parent(*signals.STOPS)\n"
        "for number in signals.STOPS: os.kill(os.getpid(), number)\n"
        "print('alive')\n"
    )
    ended = subprocess.run([sys.executable, "-c", worker], cwd=ROOT, capture_output=True)
    assert ended.returncode == 0 and ended.stdout == b"alive\n"


def test_signals_that_may_come_twice_do_not_interrupt():
    with StopSignal() as stop:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # the time limit, after what announced it
        assert stop.poll() and stop.received == "SIGHUP"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_closed_terminal_does_not_stop_a_run_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.poll()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("disowned", [False, True])
def test_a_run_saves_after_its_terminal_is_closed(disowned, tmp_path):
    """Its output then fails, for lines and the progress bar. A disowned run continues."""
    run = (
        "import fcntl, os, pathlib, signal, sys, termios, time\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        f"if {disowned}: signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from mixer.signals import StopSignal\n"
        "from mixer.training.console import Console\n"
        "console = Console(10, 0)\n"
        "with StopSignal() as stop:\n"
        "    console.line('ready')\n"
        "    while os.isatty(0): time.sleep(0.01)\n"
        f"    while not (stop.poll() or {disowned}): time.sleep(0.01)\n"
        "    console.tick(1, {'loss': 1.0})\n"
        "    console.line('stopping')\n"
        "    console.close()\n"
        "    print('saving', flush=True)\n"
        "    print('warning', file=sys.stderr, flush=True)\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(stop.received))\n"
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", run, tmp_path / "saved"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while b"ready" not in said:
        said += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "saved").read_text() == ("None" if disowned else "SIGHUP")
