"""The evaluator `regression`: squared and absolute error, and the coefficient of determination."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics

from mixer.batch import Batch
from mixer.evaluation.registry import register_evaluator

_MOST_NAMED = 8  # outputs that get metrics of their own


@flax.struct.dataclass
class Sums(metrics.Metric):
    """What the metrics follow from, by output.

    Attributes:
      count: float32 [], the number of rows.
      squared, absolute: float32 [K], the sums of the errors.
      mean, spread: float32 [K], of the targets: the mean, and the sum of squared distances from it.
    """

    count: jax.Array
    squared: jax.Array
    absolute: jax.Array
    mean: jax.Array
    spread: jax.Array

    @classmethod
    def of(cls, outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> "Sums":
        """Of the rows [N, K] whose mask [N] is True."""
        keep = mask[:, None]
        count = mask.sum().astype(jnp.float32)
        error = jnp.where(keep, outputs - targets, 0.0)
        # By the distances from one of them: the mean of equal targets is then that target exactly,
        # and their spread is 0, not what rounding leaves.
        one = targets[mask.argmax()]
        mean = one + jnp.where(keep, targets - one, 0.0).sum(axis=0) / jnp.maximum(count, 1)
        spread = jnp.where(keep, jnp.square(targets - mean), 0.0).sum(axis=0)
        return cls(count, jnp.square(error).sum(axis=0), jnp.abs(error).sum(axis=0), mean, spread)

    def merge(self, other: "Sums") -> "Sums":
        """Of both; Chan et al. 1979, which stays exact for targets far from 0, such as years."""
        count = self.count + other.count
        share = other.count / jnp.maximum(count, 1)
        apart = other.mean - self.mean
        return Sums(
            count,
            self.squared + other.squared,
            self.absolute + other.absolute,
            self.mean + apart * share,
            self.spread + other.spread + jnp.square(apart) * self.count * share,
        )

    def compute(self) -> dict[str, np.ndarray]:
        """{"mse", "mae", "r2"}, each float64 [K]; see `Regression.summarize`."""
        count = float(self.count)
        squared, absolute, spread = (
            np.asarray(x, np.float64) for x in (self.squared, self.absolute, self.spread)
        )
        unexplained = np.divide(squared, spread, out=(squared > 0) * 1.0, where=spread > 0)
        return {"mse": squared / count, "mae": absolute / count, "r2": 1 - unexplained}


class Numbers(NamedTuple):
    """The answers to the images of a split, in its order.

    Attributes:
      index: int64 [N], the image's place in the split; unreadable images are left out.
      target: float32 [N, K], the right numbers.
      predicted: float32 [N, K].
    """

    index: np.ndarray
    target: np.ndarray
    predicted: np.ndarray


@register_evaluator("regression")
@dataclasses.dataclass(frozen=True)
class Regression:
    """How far a model's outputs are from the labels, which are numbers.

    Attributes:
      apply: (params, uint8 images) -> outputs [N, num_classes].
      num_classes: K.
      names: of the outputs.
    """

    apply: Callable
    num_classes: int
    names: tuple[str, ...] = ()
    takes = ("distribution", "probabilities", "values")
    answers = Numbers

    def named(self, names: Sequence[str]) -> "Regression":
        """The same evaluator for outputs of these names."""
        return dataclasses.replace(self, names=tuple(names))

    @property
    def higher_is_better(self) -> tuple[str, ...]:
        """The metrics that are better when higher."""
        return self._with_outputs("r2")

    @property
    def lower_is_better(self) -> tuple[str, ...]:
        """The metrics that are better when lower."""
        return self._with_outputs("mse", "mae")

    def _with_outputs(self, *metrics: str) -> tuple[str, ...]:
        return (*metrics, *(f"{metric}/{name}" for metric in metrics for name in self._measured))

    @property
    def _measured(self) -> tuple[str, ...]:
        """The outputs that have metrics of their own."""
        return self.names if 1 < len(self.names) <= _MOST_NAMED else ()

    def update(self, params, batch: Batch) -> Sums:
        """Sums over the rows of one batch whose mask is True."""
        return self.answer(params, batch)[0]

    def answer(self, params, batch: Batch) -> tuple[Sums, tuple[jax.Array, ...]]:
        """The sums, and for each row its mask and then the columns of `Numbers` but the index."""
        outputs = self.apply(params, batch["image"]).astype(jnp.float32)
        sums = Sums.of(outputs, batch["label"], batch["mask"])
        return sums, (batch["mask"], batch["label"], outputs)

    def summarize(self, sums: Sums) -> dict[str, float]:
        """{"mse", "mae", "r2"}: means over the outputs; of 2 to 8 outputs also of each: "mse/NAME".

        r2 = 1 - sum of squared errors / sum of squared distances of the targets from their mean. If
        all targets of an output are equal, it is 1 without an error, else 0.
        """
        found = sums.compute()
        means = {metric: float(values.mean()) for metric, values in found.items()}
        if not self._measured:
            return means
        return means | {
            f"{metric}/{name}": float(value)
            for metric, values in found.items()
            for name, value in zip(self._measured, values, strict=True)
        }
