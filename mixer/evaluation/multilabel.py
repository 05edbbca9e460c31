"""The evaluator `multilabel`: precision@1 and sigmoid loss, as big_vision measures pretraining."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.evaluation.registry import register_evaluator

_MOST_ANSWERED = 100  # classes; ImageNet's 50,000 rows of 1,000 would be a gigabyte of text


class Probabilities(NamedTuple):
    """The answers to the images of a split, in its order; those that do not count are left out.

    Attributes:
      index: int64 [N], the image's place in the split.
      target: float32 [N, K], of each class: 1 or 0, or a probability.
      predicted: float32 [N, K], the probabilities.
    """

    index: np.ndarray
    target: np.ndarray
    predicted: np.ndarray


@flax.struct.dataclass
class _OfLabelled(metrics.Average):
    """The share of hits among the rows that have a label."""

    @classmethod
    def from_model_output(cls, *, hit, labelled, **_) -> "_OfLabelled":
        return super().from_model_output(hit, mask=labelled)


@flax.struct.dataclass
class _Metrics(metrics.Collection):
    top1: _OfLabelled
    loss: metrics.Average.from_output("loss")


@register_evaluator("multilabel")
@dataclasses.dataclass(frozen=True)
class MultiLabel:
    """Classification of images with any number of labels. Rows without a label do not count.

    Labels that are vectors are the targets of the loss, also those of zeros: an image of no class.
    The best guess is right if no class has a larger target; of zeros none is.

    Attributes:
      apply: (params, uint8 images) -> logits [N, num_classes].
      num_classes: K.
    """

    apply: Callable
    num_classes: int
    higher_is_better = ("top1",)
    lower_is_better = ("loss",)
    takes = ("class", "classes", "distribution", "probabilities")
    answers = Probabilities

    def update(self, params, batch: Batch) -> metrics.Collection:
        """Sums over the rows of one batch that have a label and whose mask is True."""
        return self._answer(params, batch)[0]

    @property
    def answer(self) -> Callable | None:
        """(params, batch) -> the sums, and for each row whether it counts, and `Probabilities`.

        None for more than 100 classes.
        """
        return self._answer if self.num_classes <= _MOST_ANSWERED else None

    def _answer(self, params, batch: Batch) -> tuple[metrics.Collection, tuple[jax.Array, ...]]:
        logits, label = self.apply(params, batch["image"]), batch["label"]
        targets = batch_lib.multi_hot(label, self.num_classes)
        labelled = batch["mask"] & batch_lib.has_label(label)
        counted = batch["mask"] if batch_lib.are_vectors(label) else labelled
        sums = _Metrics.single_from_model_output(
            hit=batch_lib.hits(logits, label).astype(jnp.float32),
            labelled=labelled,
            loss=optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1),
            mask=counted,
        )
        return sums, (counted, targets, jax.nn.sigmoid(logits))

    def summarize(self, collection: metrics.Collection) -> dict[str, float]:
        """{"top1", "loss"}: precision@1, and nats summed over classes; both are means over rows.

        Raises:
          Failure: no row has a label.
        """
        if not collection.top1.count:
            raise errors.Failure("none of the evaluation images has a label")
        return {name: float(value) for name, value in collection.compute().items()}


def ranking(positive: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Average precision, and the area under the ROC curve, of one class.

    Images of equal probability count together, in both as in scikit-learn.

    Args:
      positive: bool [N], whether an image has the class.
      probability: float [N].

    Returns:
      NaN for both if no image has the class; for the area also if all have.
    """
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)  # of equal ones
    right = np.cumsum(positive[order])[last]
    wrong = last + 1 - right
    with np.errstate(invalid="ignore"):
        recall = np.append(0, right / right[-1])
        false = np.append(0, wrong / wrong[-1])
    precision = float((np.diff(recall) * right / (last + 1)).sum())
    return precision, float((np.diff(false) * (recall[1:] + recall[:-1]) / 2).sum())
