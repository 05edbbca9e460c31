"""The evaluator `classification`: top-1, top-5, negative log-likelihood and calibration error."""

import dataclasses
from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics

from mixer.batch import Batch
from mixer.evaluation.registry import register_evaluator

_BINS = 15


@flax.struct.dataclass
class CalibrationBins(metrics.Metric):
    """Sums for each bin of confidence (i / 15, (i + 1) / 15]: examples, confidences, hits."""

    sums: jax.Array  # float32 [3, 15]

    @classmethod
    def empty(cls) -> "CalibrationBins":
        return cls(jnp.zeros((3, _BINS)))

    @classmethod
    def from_model_output(cls, *, confidence, hit, mask, **_) -> "CalibrationBins":
        bins = jnp.clip(jnp.ceil(confidence * _BINS).astype(jnp.int32) - 1, 0, _BINS - 1)
        member = jax.nn.one_hot(bins, _BINS, dtype=jnp.float32) * mask[:, None].astype(jnp.float32)
        rows = jnp.stack([jnp.ones_like(confidence), confidence, hit])
        return cls(jnp.matmul(rows, member, precision=jax.lax.Precision.HIGHEST))

    def merge(self, other: "CalibrationBins") -> "CalibrationBins":
        return CalibrationBins(self.sums + other.sums)

    def compute(self) -> float:
        """Expected calibration error: |accuracy - confidence| of a bin, averaged over examples."""
        count, confidence, hits = np.asarray(self.sums, np.float64)
        return float(np.abs(hits - confidence).sum() / count.sum())


@flax.struct.dataclass
class _Metrics(metrics.Collection):
    top1: metrics.Average.from_output("hit")
    top5: metrics.Average.from_output("hit5")
    nll: metrics.Average.from_output("nll")
    ece: CalibrationBins


def _cross_entropy(target: jax.Array, log_p: jax.Array) -> jax.Array:
    # A class that is excluded has log_p = -inf.
    return -jnp.where(target > 0, target * log_p, 0.0).sum(axis=1)


@register_evaluator("classification")
@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification with one label per image, by the softmax of the logits.

    If labels are distributions, nll is the cross-entropy, and the label is the most likely class.

    Attributes:
      apply: (params, uint8 images) -> logits [N, num_classes].
      num_classes: K. With fewer than 5 classes, top-5 is top-K.
    """

    apply: Callable
    num_classes: int
    higher_is_better = ("top1", "top5")
    lower_is_better = ("nll", "ece")
    takes = ("class", "distribution")

    def update(self, params, batch: Batch) -> metrics.Collection:
        """Sums over the rows of one batch whose mask is True."""
        return self.answer(params, batch)[0]

    def answer(self, params, batch: Batch) -> tuple[metrics.Collection, tuple[jax.Array, ...]]:
        """The sums, and for each row its mask and then the columns of `Answers` but the index."""
        logits = self.apply(params, batch["image"])
        log_p = jax.nn.log_softmax(logits)
        given, soft = batch["label"], batch["label"].ndim == 2
        if soft:
            given = given.argmax(axis=1).astype(jnp.int32)
        label = jnp.maximum(given, 0)[:, None]
        log_p_of_label = jnp.take_along_axis(log_p, label, axis=1)[:, 0]
        best = jax.lax.top_k(logits, min(5, self.num_classes))[1]
        sums = _Metrics.single_from_model_output(
            hit=(best[:, :1] == label).any(axis=1).astype(jnp.float32),
            hit5=(best == label).any(axis=1).astype(jnp.float32),
            nll=_cross_entropy(batch["label"], log_p) if soft else -log_p_of_label,
            confidence=jnp.exp(log_p.max(axis=1)),
            mask=batch["mask"],
        )
        likely = jnp.exp(jnp.take_along_axis(log_p, best, axis=1))
        return sums, (batch["mask"], given, best, likely, jnp.exp(log_p_of_label))

    def summarize(self, collection: metrics.Collection) -> dict[str, float]:
        """{"top1", "top5", "nll", "ece"}: fractions, and the mean of nll in nats, over examples."""
        return {name: float(value) for name, value in collection.compute().items()}
