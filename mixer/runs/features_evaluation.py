"""What evaluators of a model's features share: datasets of two splits each, and their features."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.errors import FlaxError
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.checkpoint.model_card import ModelCard
from mixer.data.sources import label_kinds
from mixer.data.transforms import before_crop
from mixer.evaluation import features
from mixer.evaluation.features import Features
from mixer.runs.data import evaluation_reader, unless_missing
from mixer.runs.model import apply_of, compiled
from mixer.runs.reader import Batches, Reader, shared
from mixer.weights import fitting


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnFeatures:
    """An `evaluations.Evaluation` of features. A class derived from it has `score`.

    Attributes:
      update: (parameters, batch) -> features, labels and mask; jitted.
      datasets: name -> readers of the training and the test split.
    """

    name: str
    update: Callable
    datasets: dict[str, tuple[Reader, Reader]]
    every: int

    @property
    def readers(self) -> list[Reader]:
        """See `evaluations.Evaluation`, as for the members below."""
        return [reader for pair in self.datasets.values() for reader in pair]

    @property
    def measured(self) -> list[Reader]:
        """The test splits; the training splits are only learnt from."""
        return [test for _, test in self.datasets.values()]

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """The summary of all datasets' scores; None if `interrupted()` became true.

        With `config.input.on_bad=skip`, `skipped` counts the unreadable examples.
        """
        found, skipped = {}, {}
        for dataset, readers in self.datasets.items():
            splits = []
            for reader in readers:
                with reader.batches() as batches:
                    some = readable(reader, batches, self.name)
                    splits.append(features.extract(self.update, params, some, interrupted))
                if splits[-1] is None:
                    return None
                if reader.rows.skip_bad:
                    skipped["skipped"] = skipped.get("skipped", 0) + batches.skipped_by_all()
            classes = len(reader.source.classes)
            found[dataset] = self.score(dataset, *splits, classes, interrupted)
            if found[dataset] is None:
                return None
        return self.summarize(found) | skipped

    def score(
        self,
        dataset: str,
        train: Features,
        test: Features,
        num_classes: int,
        interrupted: Callable[[], bool],
    ) -> dict[int, Any] | None:
        """What is measured of one dataset; None if `interrupted()` became true."""
        raise NotImplementedError

    def summarize(self, found: dict[str, dict[int, Any]]) -> dict[str, float]:
        """{metric: number}, from the scores of all datasets."""
        raise NotImplementedError


def readable(reader: Reader, batches: Batches, name: str) -> Iterator[Batch]:
    """All batches of a split that `config.evaluators.<name>` measures.

    Raises:
      Failure: at the end, if none of the images could be read.
    """
    yield from batches
    if batches.skipped_by_all() == len(reader.source):
        source = reader.source
        raise errors.Failure(
            f"config.evaluators.{name}: none of the {len(source):,} images of {source.name} "
            f"{source.split} can be read: {reader.rows.unusable(0) or 'see the other processes'}"
        )


def datasets_of(
    config: ConfigDict, name: str, default: Sequence[tuple[str, str, str]]
) -> dict[str, tuple[str, str]]:
    """{dataset: (training split, test split)} of `config.evaluators.<name>`.

    Raises:
      BadInput: a dataset without two different splits, or one given twice.
    """
    found, key = {}, f"evaluators.{name}"
    for asked in config.evaluators[name].datasets or default:
        if len(asked) != 3 or not all(isinstance(part, str) for part in asked):
            raise errors.BadInput(
                f"config.{key}.datasets: expected (name, training split, test split), got {asked!r}"
            )
        dataset, *splits = asked
        if dataset in found:
            raise errors.BadInput(f"config.{key}.datasets has {dataset!r} twice")
        if splits[0] == splits[1]:
            raise errors.BadInput(
                f"config.{key}.datasets: {dataset} would learn from {splits[0]} and be measured on "
                f"it: expected two splits without common images"
            )
        found[dataset] = tuple(splits)
    return found


def build(
    config: ConfigDict,
    name: str,
    model: nn.Module,
    mesh: Mesh,
    card: ModelCard,
    steps: Callable[[str, str], int] | None,
    asked: dict[str, tuple[str, str]],
) -> dict[str, Any]:
    """The attributes of `OnFeatures` for `config.evaluators.<name>`; see `build_on_split`.

    Args:
      asked: of `datasets_of`.

    Raises:
      BadInput: a dataset or a model that this does not apply to.
    """
    entry, key = config.evaluators[name], f"evaluators.{name}"
    every = steps(entry.every, f"{key}.every") if steps else 0
    height, width = card.image_size
    transform = (
        entry.transform or f"resize(({before_crop(height)}, {before_crop(width)}))|central_crop"
    )
    datasets = {}
    for dataset, splits in asked.items():
        with unless_missing(entry.optional, f"{dataset} of config.{key}"):
            train, test = (
                evaluation_reader(config, name, dataset, split, transform, card, mesh)
                for split in splits
            )
            _check(key, entry.type, train, test)
            datasets[dataset] = train, test
    if not datasets:
        raise errors.Missing(f"config.{key}: none of its datasets is prepared")
    forward, _ = forward_of(model, mesh, card, key)
    return {"name": name, "update": compiled(forward, mesh), "datasets": datasets, "every": every}


def forward_of(model: nn.Module, mesh: Mesh, card: ModelCard, key: str) -> tuple[Callable, int]:
    """`features.forward` of a model, to be compiled, and the number of its features.

    Args:
      key: of the config, for messages.

    Raises:
      BadInput: the model has no features.
    """
    forward = features.forward(apply_of(model.clone(num_classes=0), mesh))
    try:
        batch = batch_lib.spec(mesh.size, card.image_size, channels=card.channels)
        found, *_ = jax.eval_shape(forward, fitting.shapes(model, card.image_size), batch)
    except (FlaxError, ValueError, TypeError, ZeroDivisionError) as error:
        raise errors.BadInput(
            f"config.{key}: {type(model).__name__} with num_classes=0, which should return the "
            f"features below the head, fails: {str(error).strip().splitlines()[0]}"
        ) from None
    return forward, found.shape[-1]


def _check(key: str, kind: str, train: Reader, test: Reader) -> None:
    """Refuses labels other than one class, different classes, and images of both splits."""
    name = train.source.name
    for given in (label_kinds.of(reader.source).kind for reader in (train, test)):
        if given != "class":
            raise errors.BadInput(
                f"config.{key}: an evaluator of type {kind} is for one label per image, but {name} "
                f"has {label_kinds.KINDS[given]}: choose another dataset"
            )
    if tuple(train.source.classes) != tuple(test.source.classes):
        raise errors.BadInput(f"config.{key}: the two splits of {name} have different classes")
    if both := shared(test.source, train.source):
        raise errors.BadInput(
            f"config.{key}.datasets: {both:,} of the {len(test.source):,} images of {name} "
            f"{test.source.split} are also in {train.source.split}, which is learnt from: expected "
            f"two splits without common images"
        )
