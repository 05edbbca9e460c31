"""What several runs build from the config."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.checkpoint import adapt
from mixer.checkpoint.pretrained import Card
from mixer.data import order
from mixer.data.sources import Source, max_labels
from mixer.data.subset import fraction_of
from mixer.evaluation import (  # noqa: F401 they register the evaluators
    classification,
    imagenet_subsets,
    multilabel,
)
from mixer.evaluation.registry import EVALUATORS, Evaluator, evaluate
from mixer.models import registry
from mixer.runs.build.data import class_names, open_data, training_split
from mixer.runs.build.decoding import decoding_of, skip_bad
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


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluator on one split, with its cadence in steps."""

    name: str
    evaluator: Evaluator
    update: Callable
    reader: Reader
    every: int

    @property
    def readers(self) -> list[Reader]:
        """All that is read."""
        return [self.reader]

    @property
    def measured(self) -> list[Reader]:
        """What is measured."""
        return self.readers

    @property
    def higher_is_better(self) -> tuple[str, ...]:
        """The metrics by which a checkpoint may be chosen."""
        return getattr(self.evaluator, "higher_is_better", ())

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """The numbers over the whole split, by name; None if `interrupted()` became true.

        Where unreadable examples are left out, `skipped` counts them.
        """
        with self.reader.batches() as batches:
            measured = evaluate(self.evaluator, self.update, params, batches, interrupted)
        if measured is not None and self.reader.rows.skip_bad:
            measured["skipped"] = batches.skipped_by_all()
        return measured


def training_source(config: ConfigDict) -> tuple[Source, int]:
    """What is trained on, and of how many examples `config.input.fraction` is taken."""
    fraction = config.input.fraction
    if not 0 < fraction <= 1:
        raise errors.BadInput(f"config.input.fraction={fraction}: expected 0 < fraction <= 1")
    whole = open_data(config, config.dataset, training_split(config))
    names = class_names(config)
    if names and names != tuple(whole.classes):
        raise errors.BadInput(
            f"config.input.class_names={config.input.class_names} begins with {_some(names)}, and "
            f"{config.dataset} has names of its own: {_some(whole.classes)}. Leave it empty"
        )
    if fraction == 1:
        return whole, len(whole)
    seed = config.input.fraction_seed
    within(0, 2**32, **{"input.fraction_seed": seed})
    return fraction_of(whole, fraction, seed), len(whole)


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
        decoding=decoding_of(config, source, fast=config.input.fast_decode),
        skip_bad=skip_bad(config),
    )


def keep_evaluators(config: ConfigDict, names: Collection[str]) -> None:
    """Removes all others from `config.evaluators`."""
    with config.evaluators.unlocked() as evaluators:
        for name in set(evaluators) - set(names):
            del evaluators[name]


@contextlib.contextmanager
def unless_missing(optional: bool, what: str) -> Iterator[None]:
    """Goes on without `what` if it is optional and its data are not there, and says so."""
    try:
        yield
    except errors.Missing as error:
        if not optional:
            raise
        print(f"warning: {what} is left out: {error}", flush=True)


def apply_of(model: nn.Module, mesh: Mesh) -> Callable:
    """(params, uint8 images) -> what the model makes of them."""
    apply = sharding.by_rows(model.apply, mesh)
    return lambda params, images: apply({"params": params}, batch_lib.to_model_input(images))


def compiled(update: Callable, mesh: Mesh) -> Callable:
    """update(params, batch), both where they lie, its results whole on every device."""
    return step.guarded(jax.jit(update, out_shardings=sharding.replicated(mesh)))


def evaluation_reader(
    config: ConfigDict,
    name: str,
    dataset: str,
    split: str,
    transform: str,
    card: Card,
    mesh: Mesh,
    *,
    by_name: bool = False,
) -> Reader:
    """Reads a split once, in order, as `config.evaluators.<name>` and the model ask for it.

    Args:
      by_name: whether a folder's images are labelled by the names of the model's classes.
    """
    batch_size = config.evaluators[name].batch_size
    sharding.check_batch_size(batch_size, mesh, f"evaluators.{name}.batch_size")
    source = open_data(
        config,
        dataset,
        split,
        classes=card.classes if by_name else (),
        trained_on=card.dataset,
    )
    return open_reader(
        source,
        transform,
        card.image_size,
        batch_size=batch_size,
        seed=config.seed,
        order=None,
        mesh=mesh,
        threads=config.runtime.threads,
        workers=0,  # starting processes anew for each pass costs more than they bring
        decoding=decoding_of(config, source, card),
        skip_bad=skip_bad(config),
    )


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
      Missing: its data are not there.
    """
    entry = config.evaluators[name]
    key = f"evaluators.{name}"
    # Before the data are opened, which may be missing: a key is used or not whatever is there.
    every = steps(entry.every, f"{key}.every") if steps else 0
    if entry.type not in EVALUATORS:
        raise errors.unknown(f"config.{key}.type", entry.type, [*EVALUATORS, "fewshot"])
    dataset = entry.dataset or config.dataset
    # In training the config's own preprocessing is the card's; in evaluation the card's counts.
    transform = entry.transform if steps else card.transform
    reader = evaluation_reader(
        config, name, dataset, entry.split, transform, card, mesh, by_name=True
    )
    source = reader.source
    if tuple(source.classes) != card.classes:
        raise errors.BadInput(
            f"config.{key}: {dataset} has {len(source.classes)} classes "
            f"({_some(source.classes)}), the model has {len(card.classes)} ({_some(card.classes)})"
        )
    evaluator = EVALUATORS[entry.type](apply_of(model, mesh), model.num_classes)
    if max_labels(source) and not getattr(evaluator, "multi_label", False):
        raise errors.BadInput(
            f"config.{key}.type={entry.type!r} is for one label an image, and those of {dataset} "
            f"may have {max_labels(source)}: set config.{key}.type=multilabel"
        )
    return Evaluation(name, evaluator, compiled(evaluator.update, mesh), reader, every)


def _some(names) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def evaluation_transform(config: ConfigDict) -> str:
    """The preprocessing that goes with the parameters: that of evaluation.

    If the evaluators differ it is that of `test`, else of `val`; those without a split count only
    where there are no others.

    Raises:
      BadInput: they differ, and none of them is called so.
    """
    entries = {name: config.evaluators[name] for name in config.evaluators}
    known = {n: e.transform for n, e in entries.items() if e.type != "fewshot" and e.transform}
    used = {name: known[name] for name in known if entries[name].split} or known
    for name in ("test", "val"):
        if name in used:
            return used[name]
    if len(set(used.values())) > 1:
        raise errors.BadInput(
            f"config.evaluators have several transforms ({', '.join(sorted(set(used.values())))}): "
            f"call one of them test or val, by which the model is to be used later"
        )
    return next(iter(used.values()), "resize")


def precision(model: nn.Module) -> str:
    """For results.json: dtypes, and how float32 products are made."""
    matmul = jax.config.jax_default_matmul_precision or "platform default"
    return f"{getattr(model, 'dtype', 'float32')} compute, float32 parameters, matmul: {matmul}"


def resolution(image_size: tuple[int, int]) -> int | list[int]:
    """One number for square images, as papers give it."""
    return image_size[0] if image_size[0] == image_size[1] else list(image_size)
