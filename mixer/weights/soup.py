"""Model soups: averages of the parameters of several trained models (Wortsman et al. 2022,
arXiv 2203.05482, section 2). The models are of one architecture and, to be of use, were fine-tuned
from the same weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


class Greedy(NamedTuple):
    """A greedy soup: its parameters, the models in it in the order of adding, and its score."""

    params: Any
    kept: tuple[int, ...]
    score: float


def uniform(models: Sequence[Any]) -> Any:
    """The mean of each array of one or more trees of float32 arrays, summed in float64."""

    def mean(*arrays: np.ndarray) -> np.ndarray:
        return np.mean(np.stack(arrays), axis=0, dtype=np.float64).astype(np.float32)

    return jax.tree.map(mean, *models)


def greedy(
    models: Sequence[Any],
    scores: Sequence[float],
    measure: Callable[[Any], float],
    *,
    higher_is_better: bool = True,
) -> Greedy:
    """Adds the models from the best to the worst, each unless the soup would score worse with it.

    Recipe 1 of the paper.

    Args:
      models: trees of float32 arrays.
      scores: of each model alone, on held-out images.
      measure: gives the score of any parameters, on the same images.
    """
    sign = 1 if higher_is_better else -1
    first, *others = sorted(range(len(models)), key=lambda i: -sign * scores[i])  # equal: in order
    found = Greedy(models[first], (first,), scores[first])
    for i in others:
        kept = (*found.kept, i)
        params = uniform([models[j] for j in kept])
        if sign * (score := measure(params)) >= sign * found.score:
            found = Greedy(params, kept, score)
    return found
