"""Builds a training from the config: step, data, evaluators. Writes and compiles nothing."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data import sources
from mixer.planning import peaks
from mixer.runs.data import training_reader
from mixer.runs.evaluations import AVERAGED, Evaluation, build_evaluations, unreadable
from mixer.runs.keys import at_least, within
from mixer.runs.model import precision, training_mesh
from mixer.runs.reader import Reader, fingerprints
from mixer.runs.sampling import class_weights
from mixer.runs.teacher import teacher_of
from mixer.runs.trainee import build_trainee
from mixer.runs.update import Update, update_of
from mixer.training import durations, losses, profile, schedules, writers
from mixer.training.patience import Patience
from mixer.training.progress import Progress

_LOGGED = ("train/loss", "train/accuracy")  # of an evaluation's names, which may not be the same


@dataclasses.dataclass(frozen=True)
class Training:
    """Everything that `train.py` needs.

    Attributes:
      initial: () -> the parameters of `config.init_from` and their origin; None, None if random.
      total, log_every, checkpoint_every: in steps.
      profile: the steps to trace; may be empty.
      patience: whose metric selects the checkpoint that is kept as the best.
      writers: names of registered writers.
    """

    update: Update
    card: ModelCard
    reader: Reader
    evaluations: list[Evaluation]
    initial: Callable[[], tuple[Any, dict | None]]
    total: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int
    profile: range
    patience: Patience
    writers: tuple[str, ...]
    skip_nonfinite: int
    seed: int
    precision: str

    @property
    def readers(self) -> dict[str, list[Reader]]:
        """All readers, by "training" or the evaluator's name."""
        return {"training": [self.reader]} | {e.name: e.readers for e in self.evaluations}

    @functools.cached_property
    def examples(self) -> dict[str, list[tuple[str, str, int, str]]]:
        """(dataset, split, size, `fingerprint`) of each reader, keyed like `readers`."""
        return fingerprints(self.readers)

    @property
    def measured(self) -> dict[str, list[Reader]]:
        """The readers of images that are measured, by the evaluator's name."""
        return {e.name: e.measured for e in self.evaluations}

    @property
    def mesh(self) -> Mesh:
        """The mesh of the training step."""
        return self.update.mesh

    @property
    def teacher(self) -> dict | None:
        """`Teacher.origin` of a distillation."""
        return self.update.teacher and self.update.teacher.origin

    @property
    def kept(self) -> dict[str, Any]:
        """Which checkpoints are kept, for `Store`."""
        return {
            "keep": self.keep_checkpoints,
            "best": self.patience.metric,
            "higher_is_better": self.patience.higher_is_better,
        }

    @property
    def batch_size(self) -> int:
        """Examples in a global batch."""
        return self.reader.batch_size

    @property
    def epochs(self) -> float:
        """Passes over the training examples that `config.input.fraction` leaves.

        Of a mixture only the first data set counts, as in durations.
        """
        return self.total * self.batch_size / sources.epoch(self.reader.source)

    def unreadable(self) -> str | None:
        """Looks for files that do not exist, and reads the first batch of each evaluation.

        Returns the error; None if there is none.
        """
        return self.reader.absent() or unreadable(self.evaluations)

    def headline(self) -> str:
        """One line for the terminal: model, dataset, steps, devices."""
        source, device = self.reader.source, self.mesh.devices.flat[0]
        update = self.update
        work = update.flops_per_image and f" ({update.flops_per_image / 1e9:.2f} GFLOPs per image)"
        devices = f"{self.mesh.size} {device.device_kind}{self._layout()}"
        data = " + ".join(f"{part.name} {part.split}" for part in sources.parts(source))
        return (
            f"{self.card.model['name']}, {update.num_params:,} parameters, on {data} "
            f"({len(source):,} images): {self.total:,} steps of "
            f"{self.batch_size}{work or ''} on {devices}"
        )

    def _layout(self) -> str:
        """The dtype unless it is float32, and the mesh axes that shard parameters."""
        dtype = self.card.model.get("dtype", "float32")
        sharded = {axis: self.mesh.shape[axis] for axis in ("fsdp", "tensor")}
        parts = [] if dtype == "float32" else [f"in {dtype}"]
        parts += [f"{axis} {size}" for axis, size in sharded.items() if size > 1]
        return "".join(f", {part}" for part in parts)

    def progress(self, state: dict) -> Progress:
        """Counts steps and time, continuing from `state`, as the previous session saved it."""
        peak = peaks.peak(self.mesh.devices.flat[0])
        return Progress(
            self.batch_size,
            self.mesh.size,
            state,
            max_skipped=self.skip_nonfinite,
            flops=self.update.flops_per_image,
            peak=peak and peak.flops,
        )


def build_training(config: ConfigDict, resumed: ModelCard | None = None) -> Training:
    """Builds a training.

    Args:
      resumed: the card of the run that is resumed, if any. Its model is used instead of the one in
        `init_from`, which need not exist any more.

    Raises:
      BadInput: the config asks for something that cannot be done.
    """
    trainee = build_trainee(
        config,
        config.init_head,
        lambda shapes: training_mesh(config, shapes),
        resumed,
        regression=config.loss == losses.REGRESSION,
    )
    model, mesh, source = trainee.model, trainee.mesh, trainee.source
    image_size, labels = trainee.card.image_size, trainee.labels

    def steps(duration: str, key: str, least: int = 1) -> int:
        number = durations.to_steps(duration, config.batch_size, trainee.whole, key)
        if number < least:
            raise errors.BadInput(f"config.{key}={duration!r}: expected at least {least} step")
        return number

    total = steps(config.total, "total")
    schedule = _schedule(config, steps, total)
    weights = class_weights(config, source)
    teacher = teacher_of(config, model, image_size, mesh, labels, source.classes)
    update = update_of(config, model, image_size, schedule, mesh, labels, weights, teacher)
    evaluations = build_evaluations(config, model, mesh, trainee.card, steps, _LOGGED)
    at_least(1, **{"runtime.keep_checkpoints": config.runtime.keep_checkpoints})
    return Training(
        update=update,
        card=trainee.card,
        reader=training_reader(config, source, mesh, config.batch_size),
        evaluations=evaluations,
        initial=trainee.initial,
        total=total,
        log_every=steps(config.runtime.log_every, "runtime.log_every"),
        checkpoint_every=steps(config.runtime.checkpoint_every, "runtime.checkpoint_every"),
        keep_checkpoints=config.runtime.keep_checkpoints,
        profile=profile.parse_steps(config.runtime.profile, total, "runtime.profile"),
        patience=_patience(config, evaluations),
        writers=writers.parse(config.writers),
        skip_nonfinite=config.skip_nonfinite,
        seed=config.seed,
        precision=precision(model),
    )


def _schedule(config: ConfigDict, steps: Callable[..., int], total: int) -> optax.Schedule:
    """The learning rate by step; reads only the keys of its decay."""
    asked, own = config.schedule, {}
    if asked.decay not in schedules.ENDLESS:
        own["end"] = asked.end
    if asked.decay == schedules.RSQRT:
        own["timescale"] = steps(asked.timescale, "schedule.timescale")
    rates = {"base": asked.base} | {k: v for k, v in own.items() if k == "end"}
    within(0, math.inf, **{f"schedule.{k}": rate for k, rate in rates.items()})
    return schedules.make_schedule(
        asked.decay,
        base=asked.base,
        warmup=steps(asked.warmup, "schedule.warmup", 0),
        total=total,
        cooldown=steps(asked.cooldown, "schedule.cooldown", 0),
        **own,
    )


def directions(config: ConfigDict, evaluations: list[Evaluation]) -> dict[str, bool]:
    """Whether higher is better, for each metric by which a checkpoint may be chosen."""
    return {
        f"{evaluation.name}{kind}/{metric}": higher_is_better
        for evaluation in evaluations
        for kind in ("", AVERAGED)[: 1 + (config.ema_decay > 0)]
        for metric, higher_is_better in evaluation.directions.items()
    }


def _patience(config: ConfigDict, evaluations: list[Evaluation]) -> Patience:
    """What is kept as the best, and when the training ends early."""
    best, known = config.best, directions(config, evaluations)
    if best and best not in known:
        raise errors.unknown("metric in config.best", best, known)
    at_least(0, patience=config.patience)
    if config.patience and not best:
        raise errors.BadInput(
            f"config.patience={config.patience} needs config.best, the metric that is to improve, "
            f"such as {next(iter(known), 'val/top1')}"
        )
    return Patience(best, config.patience, known.get(best, True))
