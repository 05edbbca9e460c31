"""The evaluator `multilabel`: precision@1 and sigmoid loss, as big_vision measures pretraining."""

import dataclasses
from collections.abc import Callable

import flax
import jax.numpy as jnp
import optax
from clu import metrics

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.evaluation.registry import register_evaluator


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

    def update(self, params, batch: Batch) -> metrics.Collection:
        """Sums over the rows of one batch that have a label and whose mask is True."""
        logits, label = self.apply(params, batch["image"]), batch["label"]
        targets = batch_lib.multi_hot(label, self.num_classes)
        labelled = batch["mask"] & batch_lib.has_label(label)
        return _Metrics.single_from_model_output(
            hit=batch_lib.hits(logits, label).astype(jnp.float32),
            labelled=labelled,
            loss=optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1),
            mask=batch["mask"] if batch_lib.are_vectors(label) else labelled,
        )

    def summarize(self, collection: metrics.Collection) -> dict[str, float]:
        """{"top1", "loss"}: precision@1, and nats summed over classes; both are means over rows.

        Raises:
          Failure: no row has a label.
        """
        if not collection.top1.count:
            raise errors.Failure("none of the evaluation images has a label")
        return {name: float(value) for name, value in collection.compute().items()}
