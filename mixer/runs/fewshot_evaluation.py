"""Evaluators of type `fewshot`: linear regressions on the features of several datasets."""

import dataclasses
from collections.abc import Callable

import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.evaluation import fewshot
from mixer.evaluation.features import Features
from mixer.runs import features_evaluation
from mixer.runs.features_evaluation import OnFeatures


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShot(OnFeatures):
    """Few-shot linear evaluation.

    Attributes:
      published: names of the datasets whose splits are those of a published protocol.
    """

    rule: fewshot.Rule
    shots: tuple[int, ...]
    published: frozenset[str]
    _said: set[str] = dataclasses.field(default_factory=set)

    @property
    def directions(self) -> dict[str, bool]:
        """All accuracies."""
        return {f"{dataset}/{k}shot": True for dataset in self.datasets for k in self.shots}

    def score(
        self,
        dataset: str,
        train: Features,
        test: Features,
        num_classes: int,
        interrupted: Callable[[], bool],
    ) -> dict[int, np.ndarray] | None:
        """See `fewshot.accuracies`."""
        shots = self._shots_of(dataset, train, num_classes)
        return fewshot.accuracies(self.rule, shots, train, test, num_classes, interrupted)

    def summarize(self, found: dict[str, dict[int, np.ndarray]]) -> dict[str, float]:
        """See `fewshot.summarize`."""
        return fewshot.summarize(self.rule, found)

    def _shots_of(self, dataset: str, train: Features, classes: int) -> tuple[int, ...]:
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
    """{dataset: (training split, test split)} of `config.evaluators.<name>`, or its rule's."""
    return features_evaluation.datasets_of(config, name, rule_of(config, name).datasets)


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
    rule, shots = rule_of(config, name), tuple(config.evaluators[name].shots)
    if not shots or not all(isinstance(k, int) and k > 0 for k in shots):
        raise errors.BadInput(
            f"config.evaluators.{name}.shots={shots}: expected numbers of examples per class"
        )
    asked = datasets_of(config, name)
    protocols = [own for rule in fewshot.RULES.values() for own in rule.datasets]
    published = frozenset(d for d, splits in asked.items() if (d, *splits) in protocols)
    built = features_evaluation.build(config, name, model, mesh, card, steps, asked)
    return FewShot(**built, rule=rule, shots=shots, published=published)
