"""Draws the curves of a finished training, from its metrics.jsonl."""

import json

from etils import epath

from mixer import storage
from mixer.hosts import peers

# Fewer logged steps make no curve.
_LEAST = 10


def write(workdir: epath.Path) -> None:
    """Writes curves.png, on process 0, if at least 10 steps were logged.

    A training is complete without it, so an error of any kind is only a warning.
    """
    if peers.index():
        return
    try:
        log = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        if sum("train/loss" in line for line in log) < _LEAST:
            return
        from mixer.paper import diagrams, style  # only here: trainings should start without it

        with storage.write_whole(workdir / "curves.png") as file:
            style.save(diagrams.curves(log), file, "png")
    except Exception as error:
        print(f"warning: {workdir / 'curves.png'} was not drawn: {error}", flush=True)
