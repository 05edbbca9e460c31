"""What several runs build from the config."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.checkpoint import adapt, official, pretrained
from mixer.checkpoint.pretrained import Card
from mixer.data import order, staging
from mixer.data.sources import Source, default_data_dir, open_source, place
from mixer.evaluation import classification  # noqa: F401 registers the evaluator
from mixer.evaluation.registry import EVALUATORS, Evaluator
from mixer.models import registry
from mixer.runs.imports import import_modules
from mixer.runs.reader import Reader, open_reader
from mixer.training import sharding, step


def at_least(least: int, **keys: float) -> None:
    """Refuses config keys below `least`."""
    for key, value in keys.items():
        if value < least:
            raise errors.BadInput(f"config.{key}={value}: expected {least} or more")


def within(low: float, below: float, **keys: float) -> None:
    """Refuses config keys outside [low, below), NaN among them."""
    for key, value in keys.items():
        if not low <= value < below:
            raise errors.BadInput(f"config.{key}={value}: expected {low} <= {key} < {below}")


def image_size_of(config: ConfigDict) -> tuple[int, int]:
    """`config.image_size`, checked."""
    size = tuple(config.image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise errors.BadInput(
            f"config.image_size={size}: expected a pair (height, width) of pixels"
        )
    return size


def build_model(name: str, fields: dict[str, Any], image_size: tuple[int, int]) -> nn.Module:
    """Builds the model and checks it against the image size."""
    model = registry.create_model(name, **fields)
    try:
        adapt.shapes(model, image_size)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        message = str(error).strip().splitlines()[0]
        raise errors.BadInput(f"config.model and config.image_size: {message}") from None
    return model


def data_dir(config: ConfigDict) -> Path | str | None:
    """Where TFDS datasets lie; None for TFDS's own rule."""
    return place(config.runtime.data_dir) if config.runtime.data_dir else None


def open_data(config: ConfigDict, dataset: str, split: str) -> Source:
    """Opens a split where it lies, or as a copy in `config.input.stage`."""
    folder = config.input.stage
    origin = data_dir(config) or default_data_dir()
    if not folder or dataset == "digits":
        return open_source(dataset, split, origin)
    return staging.open_staged(dataset, split, origin, place(folder))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluator on one split, with its cadence in steps."""

    name: str
    evaluator: Evaluator
    update: Callable
    reader: Reader
    every: int


def training_reader(config: ConfigDict, source: Source, mesh: Mesh, batch_size: int) -> Reader:
    """The training split, shuffled and augmented as the config says."""
    at_least(0, **{f"runtime.{k}": config.runtime[k] for k in ("threads", "workers")})
    return open_reader(
        source,
        config.input.transform,
        image_size_of(config),
        batch_size=batch_size,
        seed=config.seed,
        order=order.parse(
            config.input.shuffle, examples=len(source), seed=config.seed, batch_size=batch_size
        ),
        mesh=mesh,
        threads=config.runtime.threads,
        workers=config.runtime.workers,
    )


def sheet_reader(config: ConfigDict) -> tuple[Reader, int]:
    """The first training images as one batch, and how many of them are asked for."""
    import_modules(config.imports)
    within(0, 2**32, seed=config.seed)
    at_least(1, sheet=config.sheet)
    mesh = sharding.make_mesh()
    source = open_data(config, config.dataset, config.input.split)
    whole = -(-config.sheet // mesh.size) * mesh.size
    return training_reader(config, source, mesh, whole), config.sheet


def _apply(model: nn.Module) -> Callable:
    return lambda params, images: model.apply({"params": params}, batch_lib.to_model_input(images))


def build_evaluation(
    config: ConfigDict,
    name: str,
    model: nn.Module,
    mesh: Mesh,
    card: Card,
    steps: Callable[[str, str], int] | None,
) -> Evaluation:
    """Builds `config.evaluators.<name>`.

    Args:
      card: what the model expects.
      steps: (duration, key) -> steps while training; None for an earlier run's parameters.

    Raises:
      BadInput: unknown type or dataset, or classes that are not the model's.
    """
    entry = config.evaluators[name]
    key = f"evaluators.{name}"
    if entry.type not in EVALUATORS:
        raise errors.unknown(f"config.{key}.type", entry.type, EVALUATORS)
    dataset = entry.dataset or config.dataset
    source = open_data(config, dataset, entry.split)
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
        order=None,
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


def evaluation_transform(config: ConfigDict) -> str:
    """The preprocessing that goes with the parameters: the first evaluator's."""
    return next((e.transform for e in config.evaluators.values()), "resize")


def precision(model: nn.Module) -> str:
    """For results.json: dtypes, and how float32 products are made."""
    matmul = jax.config.jax_default_matmul_precision or "platform default"
    return f"{getattr(model, 'dtype', 'float32')} compute, float32 parameters, matmul: {matmul}"


def upstream_of(path: str) -> tuple[dict, dict | None]:
    """What results.json says of `init_from`; with a workdir, the meta of its newest checkpoint."""
    keys = ("model", "dataset", "epochs", "resolution", "device_days", "path", "sha256")
    if path.endswith(".npz"):
        official.read_npz(path)
        digest = hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
        return dict.fromkeys(keys) | {"path": path, "sha256": digest}, None
    meta = pretrained.read_meta(path)
    card = Card.from_json(meta["card"])
    known = {
        "model": card.model["name"],
        "dataset": card.dataset,
        "epochs": meta["epochs"],
        "resolution": resolution(card.image_size),
        "device_days": meta["device_days"],
        "path": path,
    }
    return dict.fromkeys(keys) | known, meta


def resolution(image_size: tuple[int, int]) -> int | list[int]:
    """One number for square images, as papers give it."""
    return image_size[0] if image_size[0] == image_size[1] else list(image_size)
