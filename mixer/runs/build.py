"""From the config to objects: the only reader of config keys. All that can be refused is, here."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.checkpoint import adapt, pretrained
from mixer.checkpoint.pretrained import Card
from mixer.data import sources, transforms
from mixer.evaluation import classification  # noqa: F401 registers the evaluator
from mixer.evaluation.registry import EVALUATORS, Evaluator
from mixer.models import registry
from mixer.runs.imports import import_modules
from mixer.runs.reader import Reader, open_reader
from mixer.training import durations, losses, optimizer, schedules, sharding, step


def _image_size(config: ConfigDict) -> tuple[int, int]:
    size = tuple(config.image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise errors.BadInput(
            f"config.image_size={size}: expected a pair (height, width) of pixels"
        )
    return size


def _model(name: str, fields: dict[str, Any], image_size: tuple[int, int]) -> nn.Module:
    """Builds the model and checks it against the image size."""
    model = registry.create_model(name, **fields)
    try:
        adapt.shapes(model, image_size)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        message = str(error).strip().splitlines()[0]
        raise errors.BadInput(f"config.model and config.image_size: {message}") from None
    return model


def _data_dir(config: ConfigDict) -> Path | None:
    directory = config.runtime.data_dir
    return Path(directory).expanduser().absolute() if directory else None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluator on one split, with its cadence in steps."""

    name: str
    evaluator: Evaluator
    update: Callable
    reader: Reader
    every: int


def _apply(model: nn.Module) -> Callable:
    return lambda params, images: model.apply({"params": params}, batch_lib.to_model_input(images))


def _evaluation(config, name, model, mesh, card: Card, steps: Callable[[str, str], int] | None):
    entry = config.evaluators[name]
    key = f"evaluators.{name}"
    if entry.type not in EVALUATORS:
        raise errors.unknown(f"config.{key}.type", entry.type, EVALUATORS)
    dataset = entry.dataset or config.dataset
    source = sources.open_source(dataset, entry.split, _data_dir(config))
    if tuple(source.classes) != card.classes:
        raise errors.BadInput(
            f"config.{key}: {dataset} has {len(source.classes)} classes "
            f"({_some(source.classes)}), the model has {len(card.classes)} ({_some(card.classes)})"
        )
    # In training the config's own preprocessing is the card's; in evaluation the card's counts.
    transform = entry.transform if steps else card.transform
    sharding.check_batch_size(entry.batch_size, mesh.size, f"{key}.batch_size")
    reader = open_reader(
        source,
        transform,
        card.image_size,
        batch_size=entry.batch_size,
        seed=config.seed,
        shuffle=False,
        mesh=mesh,
        threads=config.runtime.threads,
        workers=0,  # starting processes anew for each pass costs more than they bring
    )
    evaluator = EVALUATORS[entry.type](_apply(model), model.num_classes)
    places = (sharding.replicated(mesh), sharding.batch_sharding(mesh))
    update = jax.jit(evaluator.update, in_shardings=places, out_shardings=sharding.replicated(mesh))
    every = steps(entry.every, f"{key}.every") if steps else 0
    return Evaluation(name, evaluator, step.guarded(update), reader, every)


def _some(names) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@dataclasses.dataclass(frozen=True)
class Training:
    """All that `runs/train.py` needs; made without writing or compiling anything."""

    model: nn.Module
    mesh: Mesh
    card: Card
    reader: Reader
    evaluations: list[Evaluation]
    schedule: optax.Schedule
    init: Callable[[Any], step.TrainState]
    initial_params: Callable[[], Any]
    upstream: dict | None
    train_step: Callable
    total: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int
    best: str
    seed: int
    ema: bool
    num_params: int
    precision: str

    @property
    def batch_size(self) -> int:
        """Rows of a global batch."""
        return self.reader.batch_size

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.total * self.batch_size / len(self.reader.source)

    def abstract_batch(self) -> Batch:
        """Shapes, dtypes and placement of a global batch."""
        place = sharding.batch_sharding(self.mesh)
        spec = batch_lib.spec(self.batch_size, self.card.image_size)
        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=place) for k, v in spec.items()}


def training(config: ConfigDict) -> Training:
    """Builds a training run.

    Raises:
      BadInput: whatever in the config cannot be done.
    """
    import_modules(config.imports)
    image_size = _image_size(config)
    fields = config.model.to_dict()
    name, given_classes = fields.pop("name"), fields.pop("num_classes")
    _model(name, fields | {"num_classes": given_classes or 1}, image_size)
    if config.loss not in losses.LOSSES:
        raise errors.unknown("config.loss", config.loss, losses.LOSSES)
    transforms.parse(config.input.transform, image_size)
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh.size, "batch_size")

    source = sources.open_source(config.dataset, config.input.split, _data_dir(config))
    if given_classes and given_classes != len(source.classes):
        raise errors.BadInput(
            f"config.model.num_classes={given_classes}, but {config.dataset} has "
            f"{len(source.classes)} classes; leave it empty to take the dataset's"
        )
    fields |= {"num_classes": len(source.classes)}
    model = _model(name, fields, image_size)
    reader = open_reader(
        source,
        config.input.transform,
        image_size,
        batch_size=config.batch_size,
        seed=config.seed,
        shuffle=True,
        mesh=mesh,
        threads=config.runtime.threads,
        workers=config.runtime.workers,
    )

    def steps(duration: str, key: str, least: int = 1) -> int:
        number = durations.to_steps(duration, config.batch_size, len(source), key)
        if number < least:
            raise errors.BadInput(
                f"config.{key}={duration!r} is {number} steps of {config.batch_size} examples: "
                f"expected at least {least}"
            )
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
    card = Card(
        model={"name": name} | fields,
        image_size=image_size,
        transform=next((e.transform for e in config.evaluators.values()), "resize"),
        classes=tuple(source.classes),
        dataset=config.dataset,
        imports=config.imports,
    )
    evaluations = [
        _evaluation(config, key, model, mesh, card, steps) for key in sorted(config.evaluators)
    ]
    _check_best(config.best, evaluations)
    init_from = config.init_from
    return Training(
        model=model,
        mesh=mesh,
        card=card,
        reader=reader,
        evaluations=evaluations,
        schedule=schedule,
        init=lambda params: step.init_state(
            model, chain, image_size, seed=config.seed, ema=config.ema_decay > 0, params=params
        ),
        initial_params=lambda: (
            pretrained.load_pretrained(init_from, model, image_size=image_size)
            if init_from
            else None
        ),
        upstream=_upstream(init_from) if init_from else None,
        train_step=step.make_step(
            model,
            losses.LOSSES[config.loss],
            chain,
            schedule,
            seed=config.seed,
            label_smoothing=config.label_smoothing,
            ema_decay=config.ema_decay,
        ),
        total=total,
        log_every=steps(config.runtime.log_every, "runtime.log_every"),
        checkpoint_every=steps(config.runtime.checkpoint_every, "runtime.checkpoint_every"),
        keep_checkpoints=config.runtime.keep_checkpoints,
        best=config.best,
        seed=config.seed,
        ema=config.ema_decay > 0,
        num_params=sum(x.size for x in jax.tree.leaves(shapes)),
        precision=_precision(model),
    )


def _check_best(best: str, evaluations: list[Evaluation]) -> None:
    names = [evaluation.name for evaluation in evaluations]
    if best and best.partition("/")[0] not in names:
        raise errors.unknown("evaluator in config.best", best.partition("/")[0], names)


def _precision(model: nn.Module) -> str:
    matmul = jax.config.jax_default_matmul_precision or "platform default"
    return f"{getattr(model, 'dtype', 'float32')} compute, float32 parameters, matmul: {matmul}"


def _upstream(path: str) -> dict:
    meta = pretrained.read_meta(path)
    card = Card.from_json(meta["card"])
    return {
        "model": card.model["name"],
        "dataset": card.dataset,
        "epochs": meta["epochs"],
        "resolution": resolution(card.image_size),
        "device_days": meta["device_days"],
        "path": path,
        "sha256": None,
    }


def resolution(image_size: tuple[int, int]) -> int | list[int]:
    """One number for square images, as papers give it."""
    return image_size[0] if image_size[0] == image_size[1] else list(image_size)


@dataclasses.dataclass(frozen=True)
class Trained:
    """Parameters of an earlier run with their model and card, for `evaluate` and `predict`."""

    model: nn.Module
    mesh: Mesh
    card: Card
    params: Any
    step: int
    upstream: dict
    precision: str


def trained(config: ConfigDict) -> Trained:
    """Loads `config.init_from`: model, preprocessing and class names come from it.

    Raises:
      BadInput: it is empty or holds nothing usable.
    """
    if not config.init_from:
        raise errors.BadInput(
            f"config.run={config.run} needs --config.init_from=WORKDIR of a training run"
        )
    import_modules(config.imports)
    meta = pretrained.read_meta(config.init_from)
    card = Card.from_json(meta["card"])
    import_modules(card.imports)
    fields = dict(card.model)
    model = _model(fields.pop("name"), fields, card.image_size)
    mesh = sharding.make_mesh()
    params = pretrained.load_pretrained(config.init_from, model, step=meta["step"], head="keep")
    params = jax.device_put(params, sharding.replicated(mesh))
    upstream = _upstream(config.init_from)
    return Trained(model, mesh, card, params, meta["step"], upstream, _precision(model))


def evaluations(config: ConfigDict, model: Trained) -> list[Evaluation]:
    """The config's evaluators for parameters of an earlier run.

    Raises:
      BadInput: there are none, or a dataset has other classes than the model.
    """
    if not len(config.evaluators):
        raise errors.BadInput("config.evaluators is empty: there is nothing to evaluate on")
    return [
        _evaluation(config, key, model.model, model.mesh, model.card, None)
        for key in sorted(config.evaluators)
    ]
