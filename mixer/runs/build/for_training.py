"""From the config to a training run, without writing or compiling anything."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.checkpoint import adapt
from mixer.checkpoint.pretrained import Card
from mixer.data import sources, transforms
from mixer.runs.build.at_size import RANDOM, at_size
from mixer.runs.build.evaluations import build_evaluations
from mixer.runs.build.few_shot import FewShot
from mixer.runs.build.parts import (
    Evaluation,
    at_least,
    build_model,
    evaluation_transform,
    image_size_of,
    precision,
    training_reader,
    training_source,
    within,
)
from mixer.runs.build.upstream import upstream_of
from mixer.runs.imports import import_modules
from mixer.runs.reader import Reader
from mixer.training import durations, losses, nonfinite, optimizer, schedules, sharding, step


@dataclasses.dataclass(frozen=True)
class Training:
    """All that `runs/train.py` needs.

    Attributes:
      init: parameters or None (random ones) -> state; to be jitted.
      initial: () -> (parameters or None, what they come from or None), by `config.init_from`.
      train_step: (state, batch) -> (state, metrics); to be compiled.
      total, log_every, checkpoint_every: steps.
    """

    mesh: Mesh
    card: Card
    reader: Reader
    evaluations: list[Evaluation | FewShot]
    init: Callable[[Any], step.TrainState]
    initial: Callable[[], tuple[Any, dict | None]]
    train_step: Callable
    total: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int
    best: str
    skip_nonfinite: int
    seed: int
    num_params: int
    precision: str

    @property
    def batch_size(self) -> int:
        """Rows of a global batch."""
        return self.reader.batch_size

    @property
    def epochs(self) -> float:
        """Passes over what is trained on: with `config.input.fraction`, over that part."""
        return self.total * self.batch_size / len(self.reader.source)

    def abstract_batch(self) -> Batch:
        """Shapes, dtypes and placement of a global batch."""
        place = sharding.batch_sharding(self.mesh)
        most = sources.max_labels(self.reader.source)
        spec = batch_lib.spec(self.batch_size, self.card.image_size, most)
        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=place) for k, v in spec.items()}


def training(config: ConfigDict, going_on: Card | None = None) -> Training:
    """Builds a training run.

    Args:
      going_on: the card of a run of this config that is gone on with. It holds the model that
        `init_from` led to, which need no longer be there.

    Raises:
      BadInput: whatever in the config cannot be done.
    """
    import_modules(config.imports)
    _check_numbers(config)
    image_size = image_size_of(config)
    fields = dict(going_on.model) if going_on else config.model.to_dict()
    name, given_classes = fields.pop("name"), fields.pop("num_classes")
    model = build_model(name, fields | {"num_classes": given_classes or 1}, image_size)
    if config.init_head not in adapt.HEADS:
        raise errors.unknown("config.init_head", config.init_head, adapt.HEADS)
    if config.init_head == "reset" and not config.init_from:
        raise errors.BadInput(
            f"config.init_from is empty, and a new head on {name} expects trained weights under "
            f"it: set it to a workdir, a file, a published name or, for none, to random"
        )
    if config.loss not in losses.LOSSES:
        raise errors.unknown("config.loss", config.loss, losses.LOSSES)
    transforms.parse(config.input.transform, image_size)
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh.size, "batch_size")

    source, whole = training_source(config)
    several = sources.max_labels(source)
    if several and config.loss == "softmax_xent":
        raise errors.BadInput(
            f"config.loss={config.loss!r} is for one label an image, and those of {config.dataset} "
            f"may have {several}: set config.loss=sigmoid_xent"
        )
    if given_classes and given_classes != len(source.classes):
        raise errors.BadInput(
            f"config.model.num_classes={given_classes}, but {config.dataset} has "
            f"{len(source.classes)} classes; leave it empty to take the dataset's"
        )
    model = model.clone(num_classes=len(source.classes))
    model, load = (model, None) if going_on else at_size(config, model, image_size)
    reader = training_reader(config, source, mesh, config.batch_size)

    def steps(duration: str, key: str, least: int = 1) -> int:
        number = durations.to_steps(duration, config.batch_size, whole, key)
        if number < least:
            raise errors.BadInput(f"config.{key}={duration!r}: expected at least {least} step")
        return number

    total = steps(config.total, "total")
    schedule = schedules.make_schedule(
        config.schedule.decay,
        base=config.schedule.base,
        end=config.schedule.end,
        warmup=steps(config.schedule.warmup, "schedule.warmup", 0),
        total=total,
        cooldown=steps(config.schedule.cooldown, "schedule.cooldown", 0),
    )
    shapes = adapt.shapes(model, image_size)
    chain = optimizer.make_optimizer(
        config.optimizer.name,
        shapes,
        schedule,
        weight_decay=config.optimizer.weight_decay,
        clip_norm=config.optimizer.clip_norm,
        multipliers=config.optimizer.multipliers,
    )
    if config.skip_nonfinite:
        chain = nonfinite.skip_nonfinite(chain)
    card = Card(
        model={"name": name} | {f: getattr(model, f) for f in ("num_classes", *fields)},
        image_size=image_size,
        transform=evaluation_transform(config),
        classes=tuple(source.classes),
        dataset=config.dataset,
        imports=config.imports,
        multi_label=several > 0,
    )
    evaluations = build_evaluations(config, model, mesh, card, steps)
    _check_best(config.best, evaluations, ema=config.ema_decay > 0)
    at_least(1, **{"runtime.keep_checkpoints": config.runtime.keep_checkpoints})
    built = Training(
        mesh=mesh,
        card=card,
        reader=reader,
        evaluations=evaluations,
        init=lambda params: step.init_state(
            model, chain, image_size, seed=config.seed, ema=config.ema_decay > 0, params=params
        ),
        initial=lambda: _initial(config, load),
        train_step=step.make_step(
            model,
            losses.LOSSES[config.loss],
            chain,
            schedule,
            seed=config.seed,
            label_smoothing=config.label_smoothing,
            mixup_p=config.mixup,
            ema_decay=config.ema_decay,
        ),
        total=total,
        log_every=steps(config.runtime.log_every, "runtime.log_every"),
        checkpoint_every=steps(config.runtime.checkpoint_every, "runtime.checkpoint_every"),
        keep_checkpoints=config.runtime.keep_checkpoints,
        best=config.best,
        skip_nonfinite=config.skip_nonfinite,
        seed=config.seed,
        num_params=sum(x.size for x in jax.tree.leaves(shapes)),
        precision=precision(model),
    )
    _trace(built)
    return built


def _check_numbers(config: ConfigDict) -> None:
    within(0, 2**32, seed=config.seed)
    at_least(0, skip_nonfinite=config.skip_nonfinite)
    within(0, 1, label_smoothing=config.label_smoothing, ema_decay=config.ema_decay)
    dropped = {k: config.model[k] for k in ("dropout", "stochastic_depth") if k in config.model}
    within(0, 1, **{f"model.{name}": rate for name, rate in dropped.items()})
    within(0, math.inf, mixup=config.mixup)
    within(0, math.inf, **{f"schedule.{k}": config.schedule[k] for k in ("base", "end")})
    keys = ("weight_decay", "clip_norm")
    within(0, math.inf, **{f"optimizer.{k}": config.optimizer[k] for k in keys})


def _initial(config: ConfigDict, load: Callable) -> tuple[Any, dict | None]:
    if config.init_from in ("", RANDOM):
        return None, None
    upstream, meta = upstream_of(config)
    return load(step=meta and meta["step"]), upstream


def _trace(built: Training) -> None:
    """Finds what only shows when the step is traced, before anything is written."""
    try:
        jax.eval_shape(built.train_step, jax.eval_shape(built.init, None), built.abstract_batch())
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        message = (str(error).strip() or repr(error)).splitlines()[0]
        raise errors.BadInput(
            f"a training step with this config.model and config.optimizer fails: {message}"
        ) from error


def _check_best(best: str, evaluations: list[Evaluation | FewShot], *, ema: bool) -> None:
    known = [
        f"{evaluation.name}{kind}/{metric}"
        for evaluation in evaluations
        for kind in ("", "_ema")[: 1 + ema]
        for metric in evaluation.higher_is_better
    ]
    if best and best not in known:
        raise errors.unknown("metric in config.best", best, known)
