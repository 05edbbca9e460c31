"""Evaluators of type `fewshot`, which measure several datasets on two splits each."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.errors import FlaxError
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data.sources import label_kinds
from mixer.data.transforms import before_crop
from mixer.evaluation import features, fewshot
from mixer.runs.data import evaluation_reader, unless_missing
from mixer.runs.model import apply_of, compiled
from mixer.runs.reader import Reader
from mixer.weights import fitting


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Few-shot linear evaluation; an `evaluations.Evaluation`.

    Attributes:
      update: (parameters, batch) -> features, labels and mask; jitted.
      datasets: name -> readers of the training and the test split.
      published: names of the datasets whose splits are those of a published protocol.
    """

    name: str
    rule: fewshot.Rule
    shots: tuple[int, ...]
    update: Callable
    datasets: dict[str, tuple[Reader, Reader]]
    published: frozenset[str]
    every: int
    _said: set[str] = dataclasses.field(default_factory=set)

    @property
    def readers(self) -> list[Reader]:
        """See `evaluations.Evaluation`, as for the members below."""
        return [reader for pair in self.datasets.values() for reader in pair]

    @property
    def measured(self) -> list[Reader]:
        """The test splits; heads are fitted to the training splits."""
        return [test for _, test in self.datasets.values()]

    @property
    def higher_is_better(self) -> tuple[str, ...]:
        """All accuracies."""
        return tuple(f"{dataset}/{k}shot" for dataset in self.datasets for k in self.shots)

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """`fewshot.summarize` of all datasets; None if `interrupted()` became true.

        With `config.input.on_bad=skip`, `skipped` counts the unreadable examples.
        """
        found, skipped = {}, {}
        for dataset, readers in self.datasets.items():
            splits = []
            for reader in readers:
                with reader.batches() as batches:
                    splits.append(features.extract(self.update, params, batches, interrupted))
                if splits[-1] is None:
                    return None
                if reader.rows.skip_bad:
                    skipped["skipped"] = skipped.get("skipped", 0) + batches.skipped_by_all()
            classes = len(reader.source.classes)
            shots = self._shots_of(dataset, splits[0], classes)
            found[dataset] = fewshot.accuracies(self.rule, shots, *splits, classes, interrupted)
            if found[dataset] is None:
                return None
        return fewshot.summarize(self.rule, found) | skipped

    def _shots_of(self, dataset: str, train: features.Features, classes: int) -> tuple[int, ...]:
        shots, remark = fewshot.with_enough(
            dataset, train.labels, classes, self.shots, published=dataset in self.published
        )
        if remark and remark not in self._said:  # once, not at every evaluation
            self._said.add(remark)
            print(remark, flush=True)
        return shots


def rule_of(config: ConfigDict, name: str) -> fewshot.Rule:
    """The rule of `config.evaluators.<name>`, which also has its default datasets.

    Raises:
      BadInput: unknown rule.
    """
    asked = config.evaluators[name].rule
    if asked not in fewshot.RULES:
        raise errors.unknown(f"config.evaluators.{name}.rule", asked, fewshot.RULES)
    return fewshot.RULES[asked]


def datasets_of(config: ConfigDict, name: str) -> dict[str, tuple[str, str]]:
    """{dataset: (training split, test split)} of `config.evaluators.<name>`.

    Raises:
      BadInput: an unknown rule, a dataset without two splits, or one given twice.
    """
    found, key = {}, f"evaluators.{name}"
    for asked in config.evaluators[name].datasets or rule_of(config, name).datasets:
        if len(asked) != 3 or not all(isinstance(part, str) for part in asked):
            raise errors.BadInput(
                f"config.{key}.datasets: expected (name, training split, test split), got {asked!r}"
            )
        dataset, *splits = asked
        if dataset in found:
            raise errors.BadInput(f"config.{key}.datasets has {dataset!r} twice")
        found[dataset] = tuple(splits)
    return found


def splits_of(config: ConfigDict, name: str) -> list[tuple[str, str]]:
    """Each (dataset, split) that `config.evaluators.<name>` reads."""
    datasets = datasets_of(config, name)
    return [(dataset, split) for dataset, splits in datasets.items() for split in splits]


def build_few_shot(
    config: ConfigDict,
    name: str,
    model: nn.Module,
    mesh: Mesh,
    card: ModelCard,
    steps: Callable[[str, str], int] | None,
) -> FewShot:
    """Builds `config.evaluators.<name>`; see `evaluations.build_on_split`.

    Raises:
      BadInput: an unknown rule, or a dataset or a model that it does not apply to.
    """
    entry, key = config.evaluators[name], f"evaluators.{name}"
    every = steps(entry.every, f"{key}.every") if steps else 0
    rule, shots = rule_of(config, name), tuple(entry.shots)
    if not shots or not all(isinstance(k, int) and k > 0 for k in shots):
        raise errors.BadInput(f"config.{key}.shots={shots}: expected numbers of examples per class")
    height, width = card.image_size
    transform = (
        entry.transform or f"resize(({before_crop(height)}, {before_crop(width)}))|central_crop"
    )
    datasets, asked = {}, datasets_of(config, name)
    for dataset, splits in asked.items():
        with unless_missing(entry.optional, f"{dataset} of config.{key}"):
            train, test = (
                evaluation_reader(config, name, dataset, split, transform, card, mesh)
                for split in splits
            )
            _check(key, train, test)
            datasets[dataset] = train, test
    if not datasets:
        raise errors.Missing(f"config.{key}: none of its datasets is prepared")
    headless = model.clone(num_classes=0)
    forward = features.forward(apply_of(headless, mesh))
    try:
        batch = batch_lib.spec(entry.batch_size, card.image_size)
        jax.eval_shape(forward, fitting.shapes(model, card.image_size), batch)
    except (FlaxError, ValueError, TypeError, ZeroDivisionError) as error:
        raise errors.BadInput(
            f"config.{key}: {type(model).__name__} with num_classes=0, which should return the "
            f"features below the head, fails: {str(error).strip().splitlines()[0]}"
        ) from None
    protocols = [own for rule in fewshot.RULES.values() for own in rule.datasets]
    published = frozenset(d for d, splits in asked.items() if (d, *splits) in protocols)
    return FewShot(name, rule, shots, compiled(forward, mesh), datasets, published, every)


def _check(key: str, train: Reader, test: Reader) -> None:
    """Refuses labels other than one class, and different classes in the two splits."""
    name = train.source.name
    for kind in (label_kinds.of(reader.source).kind for reader in (train, test)):
        if kind != "class":
            raise errors.BadInput(
                f"config.{key}: few-shot evaluation is for one label per image, but {name} has "
                f"{label_kinds.KINDS[kind]}: choose another dataset"
            )
    if tuple(train.source.classes) != tuple(test.source.classes):
        raise errors.BadInput(f"config.{key}: the two splits of {name} have different classes")
