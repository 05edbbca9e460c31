"""Evaluators of type `knn`: nearest neighbours on the features of several datasets."""

import dataclasses
from collections.abc import Callable

from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.evaluation import knn
from mixer.evaluation.features import Features
from mixer.runs import features_evaluation
from mixer.runs.features_evaluation import OnFeatures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knn(OnFeatures):
    """Accuracies of the weighted vote of the k nearest training examples.

    Attributes:
      mesh: whose devices share the search.
      neighbors: values of k.
      temperature: of the weights.
    """

    mesh: Mesh
    neighbors: tuple[int, ...]
    temperature: float

    @property
    def directions(self) -> dict[str, bool]:
        """All accuracies."""
        return {f"{dataset}/{k}nn": True for dataset in self.datasets for k in self.neighbors}

    def score(
        self,
        dataset: str,
        train: Features,
        test: Features,
        num_classes: int,
        interrupted: Callable[[], bool],
    ) -> dict[int, float] | None:
        """See `knn.accuracies`."""
        return knn.accuracies(
            self.mesh, self.neighbors, self.temperature, train, test, num_classes, interrupted
        )

    def summarize(self, found: dict[str, dict[int, float]]) -> dict[str, float]:
        """{"<dataset>/<k>nn": accuracy}."""
        return {f"{name}/{k}nn": value for name, by in found.items() for k, value in by.items()}


def datasets_of(config: ConfigDict, name: str) -> dict[str, tuple[str, str]]:
    """{dataset: (training split, test split)} of `config.evaluators.<name>`, or ImageNet's."""
    return features_evaluation.datasets_of(config, name, knn.DATASETS)


def build_knn(
    config: ConfigDict,
    name: str,
    model: nn.Module,
    mesh: Mesh,
    card: ModelCard,
    steps: Callable[[str, str], int] | None,
) -> Knn:
    """Builds `config.evaluators.<name>`; see `evaluations.build_on_split`.

    Raises:
      BadInput: more neighbours than training examples, a temperature that is not positive, or a
        dataset or a model that it does not apply to.
    """
    entry, key = config.evaluators[name], f"evaluators.{name}"
    neighbors, temperature = tuple(entry.neighbors), entry.temperature
    if not neighbors or not all(isinstance(k, int) and k > 0 for k in neighbors):
        raise errors.BadInput(
            f"config.{key}.neighbors={neighbors}: expected numbers of neighbours, such as (10, 20)"
        )
    if not temperature > 0:
        raise errors.BadInput(f"config.{key}.temperature={temperature}: expected more than 0")
    asked = datasets_of(config, name)
    built = features_evaluation.build(config, name, model, mesh, card, steps, asked)
    for dataset, (train, _) in built["datasets"].items():
        if max(neighbors) > len(train.source):
            raise errors.BadInput(
                f"config.{key}.neighbors={neighbors}: {dataset} {train.source.split} has only "
                f"{len(train.source):,} examples"
            )
    return Knn(**built, mesh=mesh, neighbors=neighbors, temperature=temperature)
