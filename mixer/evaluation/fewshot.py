"""Few-shot linear evaluation: least squares on frozen features (section 3, figure 4, appendix A).

A few examples of each class are drawn, their features are standardised, and a constant feature is
appended. Then a ridge regression onto targets of +1 for the class and -1 for the others is solved
exactly. The paper says no more than that; the rest follows big_vision's evaluator `fewshot_lsr`, in
float64.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mixer.evaluation.features import Features

# The appended feature: so large that the penalty on its weight is negligible.
_CONSTANT = 100.0
_ROWS = 4096  # converted to float64 at a time


@dataclasses.dataclass(frozen=True)
class Rule:
    """How examples are drawn and lambda is chosen, and on which datasets.

    Attributes:
      seeds: one draw of examples for each; accuracies are means over the draws. The seed None takes
        the first examples of each class.
      l2: values of lambda to choose from.
      datasets: triples (TFDS name, training split, test split).
    """

    seeds: tuple[int | None, ...]
    l2: tuple[float, ...]
    datasets: tuple[tuple[str, str, str], ...]


_BOTH = (
    ("caltech101", "train", "test"),
    ("cars196:2.1.0", "train", "test"),
    ("cifar100", "train", "test"),
    ("dtd", "train", "test"),
    ("oxford_iiit_pet", "train", "test"),
    ("uc_merced", "train[:1000]", "train[1000:]"),
)
RULES = {
    # big_vision's today; ImageNet is our addition.
    "fixed": Rule(
        seeds=(0, 1, 2),
        l2=(1024.0,),
        datasets=(("imagenet2012", "train[:65000]", "validation"), *_BOTH),
    ),
    # big_vision's of 2021, and so most likely the paper's.
    "ranked": Rule(
        seeds=(None,),
        l2=tuple(2.0**i for i in range(-10, 20)),
        datasets=(
            ("imagenet2012_subset/10pct", "train", "validation"),
            ("caltech_birds2011", "train", "test"),
            ("colorectal_histology", "train[:2000]", "train[2000:]"),
            *_BOTH,
        ),
    ),
}


def by_class(labels: np.ndarray, num_classes: int, seed: int | None) -> list[np.ndarray]:
    """For each class the indices of its examples; the first k are the subset for k shots.

    One random generator permutes one class after the other, so that we draw what big_vision draws
    if the examples are stored in the same order. Without a seed they stay in that order.
    """
    found = [np.flatnonzero(labels == c) for c in range(num_classes)]
    if seed is None:
        return found
    rng = np.random.default_rng(seed)
    return [rng.permutation(indices) for indices in found]


class Ridge:
    """Ridge regression on a few examples; one eigendecomposition serves every lambda.

    With Z the standardised features [N, D] and Y the targets [N, K], the weights are
    (Z'Z + lambda I)^-1 Z'Y = Z'(ZZ' + lambda I)^-1 Y; the smaller matrix is decomposed.

    The columns of Z sum to 0, so the constant feature is orthogonal to the others and is solved
    separately. And Y = 2 E - 1 with E one-hot, so the -1 affects only the weight of the constant.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, num_classes: int):
        """Computes the eigendecomposition.

        Args:
          features: [N, D].
          labels: int [N], from 0 to num_classes - 1.
          num_classes: K.
        """
        z = features.astype(np.float64)
        self._mean, self._scale = z.mean(axis=0), z.std(axis=0) + 1e-5
        z -= self._mean
        z /= self._scale
        if len(z) > z.shape[1]:
            eigenvalues, q = np.linalg.eigh(z.T @ z)
            self._left, self._right = q, (2 * _class_sums(z, labels, num_classes) @ q).T
        else:
            eigenvalues, q = np.linalg.eigh(z @ z.T)
            self._left, self._right = z.T @ q, 2 * _class_sums(q, labels, num_classes).T
        self._eigenvalues = np.maximum(eigenvalues, 0)  # rounding can make zeros negative
        self._count = len(z)
        self._target_sums = 2 * np.bincount(labels, minlength=num_classes) - len(z)

    def weights(self, l2: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights float64 [D, K] of the standardised features and [K] of the constant feature."""
        weights = (self._left / (self._eigenvalues + l2)) @ self._right
        return weights, _CONSTANT * self._target_sums / (_CONSTANT**2 * self._count + l2)

    def predict(self, features: np.ndarray, l2: float) -> np.ndarray:
        """Predicted classes, int [M], for features [M, D]."""
        weights, constant = self.weights(l2)
        weights /= self._scale[:, None]
        bias = _CONSTANT * constant - self._mean @ weights
        return np.concatenate(
            [
                (features[first : first + _ROWS].astype(np.float64) @ weights + bias).argmax(axis=1)
                for first in range(0, len(features), _ROWS)
            ]
        )


def _class_sums(rows: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Sums the rows of each class: [N, D] -> [K, D]. It is E' @ rows, without making E."""
    sums = np.zeros((num_classes, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums


def with_enough(
    dataset: str, labels: np.ndarray, num_classes: int, shots: Sequence[int], *, published: bool
) -> tuple[tuple[int, ...], str]:
    """The `shots` that can be measured, and a sentence about classes with fewer examples.

    In a published protocol such a class contributes all it has. Elsewhere k shots means k examples
    of every class, or is not measured.

    Args:
      labels: int [N], labels of the training split.
      published: whether the dataset and its splits belong to a published protocol.
    """
    counts = np.bincount(labels, minlength=num_classes)
    short = [k for k in shots if k > counts.min()]
    if not short:
        return tuple(shots), ""
    fewer = (
        f"{dataset}: {(counts < max(short)).sum()} of {num_classes} classes have fewer than "
        f"{max(short)} training examples, the smallest {counts.min()}"
    )
    if published:
        return tuple(shots), f"{fewer}; all of theirs are used, as in the published protocol"
    left_out = ", ".join(f"{k}shot" for k in short)
    return tuple(k for k in shots if k not in short), f"{fewer}: {left_out} not measured"


def accuracies(
    rule: Rule,
    shots: Sequence[int],
    train: Features,
    test: Features,
    num_classes: int,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[int, np.ndarray] | None:
    """For each of `shots` the accuracy on all of `test`, float64 [len(rule.l2)], one per lambda.

    Classes with fewer examples contribute all they have: see `with_enough`. Returns None if
    `interrupted()` returned True meanwhile.
    """
    drawn = [by_class(train.labels, num_classes, seed) for seed in rule.seeds]
    found = {}
    for k in shots:
        found[k] = np.zeros(len(rule.l2))
        for classes in drawn:
            few = np.concatenate([indices[:k] for indices in classes])
            ridge = Ridge(train.features[few], train.labels[few], num_classes)
            for place, l2 in enumerate(rule.l2):
                if interrupted():
                    return None
                hits = ridge.predict(test.features, l2) == test.labels
                found[k][place] += hits.mean() / len(drawn)
    return found


def summarize(rule: Rule, found: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, float]:
    """{"<dataset>/<k>shot": accuracy}, and {"l2/<k>shot": lambda} if there are several to choose.

    All datasets share one lambda: the one with the best mean rank by test accuracy.

    Args:
      found: {dataset: result of `accuracies`}.
    """
    metrics = {}
    for k in dict.fromkeys(k for by in found.values() for k in by):
        of_k = {dataset: by[k] for dataset, by in found.items() if k in by}
        # Of two lambdas with equal accuracy the larger ranks higher.
        ranks = [by.argsort(kind="stable").argsort() for by in of_k.values()]
        best = np.mean(ranks, axis=0).argmax()
        metrics |= {f"{dataset}/{k}shot": float(by[best]) for dataset, by in of_k.items()}
        if len(rule.l2) > 1:
            metrics[f"l2/{k}shot"] = rule.l2[best]
    return metrics
