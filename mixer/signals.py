"""The signals by which a machine asks a run to stop."""

import signal

# Ctrl-C; a scheduler's or a user's wish; a terminal that is closed; what SLURM's --signal and
# submitit send before the time is up.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def leave_to_parent(*signals: signal.Signals) -> None:
    """In a worker process: what reaches all processes of a run is the first one's to handle."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
