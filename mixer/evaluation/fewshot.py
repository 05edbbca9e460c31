"""Few-shot linear evaluation: least squares on frozen features (section 3, figure 4, appendix A).

A few examples of each class are drawn; their features are standardised, a constant is appended, and
a ridge regression to targets of +1 for the class and -1 for the others is solved exactly. The paper
gives no more than that; the rest is big_vision's evaluator `fewshot_lsr`, in float64.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mixer.evaluation.features import Features

# The appended feature: so large that the penalty on its weight hardly counts.
_CONSTANT = 100.0
# Rows of float64 at a time.
_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the few are drawn, how lambda is chosen, and on what.

    Attributes:
      seeds: each draws subsets of its own, and accuracies are means over them. None draws nothing:
        it takes the first examples of each class.
      l2: the lambdas to choose from.
      datasets: (TFDS name, training split, test split) of each.
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
    # big_vision's today, which leaves ImageNet to be added.
    "fixed": Rule(
        seeds=(0, 1, 2),
        l2=(1024.0,),
        datasets=(("imagenet2012", "train[:65000]", "validation"), *_BOTH),
    ),
    # That of 2021, and so most likely the paper's.
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
    """The indices of each class's examples; its first k are the subset for k shots.

    One generator permutes class after class, so that what is drawn is what big_vision draws from
    the same stored order. Without a seed they stay in that order.
    """
    found = [np.flatnonzero(labels == c) for c in range(num_classes)]
    if seed is None:
        return found
    rng = np.random.default_rng(seed)
    return [rng.permutation(indices) for indices in found]


class Ridge:
    """The regression on a few examples; one eigendecomposition serves every lambda.

    With Z the standardised features [N, D] and Y the targets [N, K], the weights are
    (Z'Z + lambda I)^-1 Z'Y = Z'(ZZ' + lambda I)^-1 Y; the smaller of the two is decomposed.

    The columns of Z sum to 0. So the constant feature is orthogonal to the others and is solved by
    itself; and of Y = 2 E - 1, E being one-hot, the -1 reaches only the constant's weight.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, num_classes: int):
        """Decomposes.

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
        self._eigenvalues = np.maximum(eigenvalues, 0)  # rounding leaves zeros below it
        self._count = len(z)
        self._target_sums = 2 * np.bincount(labels, minlength=num_classes) - len(z)

    def weights(self, l2: float) -> tuple[np.ndarray, np.ndarray]:
        """float64 [D, K] and [K]: those of the standardised features, and the constant's."""
        weights = (self._left / (self._eigenvalues + l2)) @ self._right
        return weights, _CONSTANT * self._target_sums / (_CONSTANT**2 * self._count + l2)

    def predict(self, features: np.ndarray, l2: float) -> np.ndarray:
        """int [M]: the class with the largest output for each row of features [M, D]."""
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
    """[N, D] -> [K, D]: E' times the rows, without the one-hot E."""
    sums = np.zeros((num_classes, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums


def with_enough(
    dataset: str, labels: np.ndarray, num_classes: int, shots: Sequence[int], *, published: bool
) -> tuple[tuple[int, ...], str]:
    """Those of `shots` that can be measured, and a sentence on classes with fewer examples.

    In a published protocol such a class gives what it has, as it did there. Elsewhere k shots are k
    of every class or are not measured.

    Args:
      labels: int [N], of the training split.
      published: whether dataset and splits are those of a published protocol.
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
        return tuple(shots), f"{fewer}; they give what they have, as in the published protocol"
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
    """For each of `shots` the accuracy on all of `test` by lambda, float64 [len(rule.l2)].

    Classes with fewer examples give what they have: see `with_enough`. None if `interrupted()`
    became true.
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
    """{"<dataset>/<k>shot": accuracy}, and {"l2/<k>shot": lambda} where there is a choice.

    Of several lambdas one serves all datasets: that of the best mean rank, by test accuracy.

    Args:
      found: by dataset, the result of `accuracies`.
    """
    metrics = {}
    for k in dict.fromkeys(k for by in found.values() for k in by):
        of_k = {dataset: by[k] for dataset, by in found.items() if k in by}
        # Of two lambdas alike the larger ranks higher.
        ranks = [by.argsort(kind="stable").argsort() for by in of_k.values()]
        best = np.mean(ranks, axis=0).argmax()
        metrics |= {f"{dataset}/{k}shot": float(by[best]) for dataset, by in of_k.items()}
        if len(rule.l2) > 1:
            metrics[f"l2/{k}shot"] = rule.l2[best]
    return metrics
