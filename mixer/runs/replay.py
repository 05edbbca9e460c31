"""`config.run="replay"`: redraws batches of an earlier training, to see what it saw.

Batch t is a pure function of (seed, t): examples, pixels, mixup's lambda and CutMix's box are those
of the training. The loss and gradient norm of each row are of the unmixed image and label, without
dropout or stochastic depth, at the parameters of the nearest checkpoint; with
`config.replay.exact`, at the parameters that the step started from, and the step is repeated.
"""

import dataclasses
import hashlib
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mixer import errors, storage
from mixer.checkpoint.reading import newest_card
from mixer.data import drawn, turbojpeg
from mixer.data.drawn import Redrawn
from mixer.data.sources.label_kinds import shown
from mixer.hosts import peers
from mixer.runs import keys, past, recorded, sightings, workdir
from mixer.runs.contact_sheet import draw, enlarged
from mixer.runs.model import resolution
from mixer.runs.results import Results
from mixer.runs.training import Training, build_training
from mixer.training import meshes, step

_SHOWN = 10  # rows printed on the terminal
_COLUMNS = (
    *("row", "counter", "index", "where", "instead_of", "label"),
    *("top", "left", "height", "width", "flipped", "operations"),
    *("sha256", "loss", "grad_norm"),
)


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes WORKDIR/steps/STEP.csv and .png, and examples.csv if examples are given.

    Raises:
      BadInput: before anything is written.
    """
    asked = config.replay
    keys.at_least(1, **{"replay.rows": asked.rows})
    if peers.count() > 1:
        raise errors.BadInput("config.run=replay takes one process, which reads all rows")
    if not config.init_from:
        raise errors.BadInput("config.run=replay needs --config.init_from=WORKDIR of a training")
    source = workdir.open_workdir(config.init_from)
    own = recorded.training_config(config, source)
    training = _as_trained(build_training(own, newest_card(source)), source)
    steps = _steps(asked.steps, training.total)
    examples = sightings.find(asked.examples, training.reader.source)
    if not steps and not examples:
        raise errors.BadInput(
            "config.replay.steps and config.replay.examples are empty: expected steps such as "
            "'812, 900-905', or examples such as '17, cat_3.png'"
        )
    with past.open_past(own, training, source) as history:
        updates = history.updates(steps) if asked.exact else 0
        workdir.begin(path, config)
        training.reader.stage()
        print(training.headline(), flush=True)
        metrics = sightings.write(examples, training, path)
        if asked.exact and steps:
            again = past.count_text(updates)
            print(f"exact: {again} to redo; {history.reproducibility()}", flush=True)
        replay = _Replay(training, history, path, asked.rows)
        for number in steps:
            metrics |= replay.redo(number, exact=asked.exact)
    workdir.write_results(
        path,
        Results(
            run="replay",
            protocol=protocol,
            model=training.card.model["name"],
            dataset=training.card.dataset,
            resolution=resolution(training.card.image_size),
            seed=training.seed,
            batch_size=training.batch_size,
            params=training.update.num_params,
            metrics=metrics,
            precision=training.precision,
            fast_decode=training.reader.rows.decoding.fast,
            decoder=turbojpeg.decoder(),
        ),
    )
    print(f"done: {path}", flush=True)


def _as_trained(training: Training, source: epath.Path) -> Training:
    """The training with the number of steps that it made, if it ended early."""
    results = workdir.read_json(source / workdir.RESULTS)
    early = results and results.get("ended_early")
    return dataclasses.replace(training, total=results["step"]) if early else training


def _steps(text: str, total: int) -> list[int]:
    """Parses steps such as "812, 900-905"; ascending, without duplicates."""
    found = set()
    for part in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= total:
            raise errors.BadInput(
                f"config.replay.steps={text!r}: {part!r} is not a step of 1 to {total:,} nor a "
                f"range of them: expected, for instance, "
                f"'{min(12, total)}, {min(20, total)}-{total}'"
            )
        found.update(range(first, last + 1))
    return sorted(found)


class _Replay:
    """Replays steps of a training, one after the other."""

    def __init__(
        self,
        training: Training,
        history: past.Past,
        path: epath.Path,
        rows: int,
    ):
        self.training, self.history, self.path = training, history, path
        self.sheet_rows = rows
        self.per_example = step.guarded(
            jax.jit(training.update.per_example, out_shardings=meshes.replicated(training.mesh))
        )

    def redo(self, number: int, *, exact: bool) -> dict[str, float | None]:
        """Redraws the batch of a step and writes its files; returns metrics for results.json."""
        rows = self._rows(number)
        batch = self.training.reader.put(
            {
                "image": np.stack([row.image for row in rows]),
                "label": np.stack([row.label for row in rows]),
                "mask": np.ones(len(rows), bool),
            }
        )
        params, which = self.history.exact(number) if exact else self.history.nearest(number)
        each = jax.device_get(self.per_example(params, batch))
        of_step = self.history.do(number, batch) if exact else {}
        lines = [
            self._line(row, redrawn, float(each["loss"][row]), float(each["grad_norm"][row]))
            for row, redrawn in enumerate(rows)
        ]
        told, mixing = self._mixing(number)
        logged = self.history.logged(number)
        # NaN counts as the worst loss.
        worst = np.argsort(-np.nan_to_num(each["loss"], nan=np.inf), kind="stable")
        print(f"step {number:,}: {told}; loss and gradient norm of each row")
        print(f"  unmixed, without dropout and stochastic depth, at {which}")
        if exact or logged:
            print(f"  {past.compared(of_step.get('loss'), logged)}")
        self._print(lines, worst)
        self._write(number, rows, lines, worst)
        found = mixing | {
            "loss": of_step.get("loss", math.nan),
            "logged_loss": logged.loss if logged and logged.first == number else math.nan,
            "example_loss": float(np.mean(each["loss"], dtype=np.float64)),
        }
        return {
            f"replay/{number}/{name}": value if math.isfinite(value) else None
            for name, value in found.items()
        }

    def _mixing(self, number: int) -> tuple[str, dict[str, float]]:
        """How the step mixed its batch, in words and as metrics; lambda is 1 if it did not."""
        mixing = self.training.update.mixing
        if not mixing.on:
            return "nothing is mixed", {"lambda": 1.0}
        size = self.training.card.image_size
        found = jax.device_get(step.draw_of(mixing, self.training.seed, number - 1, size))
        metrics = {"lambda": float(found.lam)}
        if mixing.cutmix:
            metrics["cutmix"] = float(found.cut)
        if not found.cut:
            return f"mixup lambda {found.lam:.6f}", metrics
        top, left, bottom, right = found.box.tolist()
        told = f"CutMix lambda {found.lam:.6f}, pixels [{top}:{bottom}, {left}:{right}]"
        box = {"top": top, "left": left, "height": bottom - top, "width": right - left}
        metrics |= {f"box_{name}": float(pixels) for name, pixels in box.items()}
        return f"{told} of the row before", metrics

    def _rows(self, number: int) -> list[Redrawn]:
        reader = self.training.reader
        first = (number - 1) * reader.batch_size
        with ThreadPoolExecutor(reader.threads or min(os.cpu_count() or 1, 16)) as pool:
            counters = range(first, first + reader.batch_size)
            return list(pool.map(lambda g: drawn.redraw(reader.rows, g), counters))

    def _line(self, row: int, redrawn: Redrawn, loss: float, grad_norm: float) -> dict[str, Any]:
        """One line of the CSV."""
        rows, trace = self.training.reader.rows, redrawn.trace
        classes = rows.source.classes
        window = [round(x, 3) if x % 1 else int(x) for x in trace.window]
        instead = redrawn.meant != redrawn.index
        pixels = np.ascontiguousarray(redrawn.image)
        values = [row, redrawn.count, redrawn.index, rows.where(redrawn.index)]
        values += [rows.where(redrawn.meant) if instead else ""]
        values += [shown(redrawn.label, classes, "; ")]
        values += [*window, trace.flipped, " | ".join(trace.operations)]
        values += [hashlib.sha256(pixels.tobytes()).hexdigest(), loss, grad_norm]
        return dict(zip(_COLUMNS, values, strict=True))

    def _print(self, lines: list[dict[str, Any]], worst: np.ndarray) -> None:
        for line in lines:
            if line["instead_of"]:
                print(f"  row {line['row']}: {line['instead_of']} cannot be read: skipped")
                print(f"    replaced by: {line['where']}")
        print("     row      loss  grad norm  label, example")
        for row in worst[:_SHOWN]:
            line = lines[row]
            numbers = f"{line['row']:>8} {line['loss']:>9.4f} {line['grad_norm']:>10.4f}"
            print(f"{numbers}  {line['label']}, {line['where']}")
        print(flush=True)

    def _write(
        self, number: int, rows: list[Redrawn], lines: list[dict[str, Any]], worst: np.ndarray
    ) -> None:
        folder = self.path / "steps"
        folder.mkdir(parents=True, exist_ok=True)
        workdir.write_csv(folder / f"{number}.csv", lines)
        shown = worst[: self.sheet_rows]
        images = np.stack([rows[row].image for row in shown])
        names = [f"{lines[row]['loss']:.3g}: {lines[row]['label']}" for row in shown]
        with storage.write_whole(folder / f"{number}.png") as file:
            draw(enlarged(images), names).save(file, "PNG")
