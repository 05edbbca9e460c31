"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): one draw per step, as in big_vision.

Each example is mixed with the one before it, and the first with the last, all in the same way.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draw(NamedTuple):
    """How one step mixes the whole global batch.

    Attributes:
      lam: float32 [], lambda: the weight of the example itself in its target, and with mixup in all
        of its pixels.
      cut: bool [], whether this step does CutMix; None where no step does.
      box: int32 [4], CutMix's (top, left, bottom, right) without the last row and column: in it the
        pixels are those of the example before. It means nothing where `cut` is False.
    """

    lam: jax.Array
    cut: jax.Array | None = None
    box: jax.Array | None = None

    def pixel_weights(self, size: tuple[int, int]) -> jax.Array:
        """The weight of the example itself in its pixels: float32 [], or [H, W, 1] with CutMix."""
        if self.box is None:
            return self.lam
        top, left, bottom, right = self.box
        y, x = jnp.arange(size[0])[:, None, None], jnp.arange(size[1])[:, None]
        inside = (top <= y) & (y < bottom) & (left <= x) & (x < right)
        return jnp.where(self.cut, ~inside, self.lam)


@dataclasses.dataclass(frozen=True)
class Mixing:
    """What the steps of a training draw from.

    Attributes:
      mixup, cutmix: p of lambda ~ Beta(p, p); 0: off.
      switch_prob: the probability that a step does CutMix, where both are on.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    switch_prob: float = 0.5

    @property
    def on(self) -> bool:
        """Whether batches are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def draw(
        self, size: tuple[int, int], mixup_key: jax.Array, cutmix_key: jax.Array | None = None
    ) -> Draw:
        """Draws for one step, if `on`.

        Args:
          size: (height, width) of the images.
          mixup_key, cutmix_key: random keys of the step; the second is for CutMix only.
        """
        if not self.cutmix:
            return Draw(sample_lambda(mixup_key, self.mixup))
        switch_key, box_key = jax.random.split(cutmix_key)
        lam, box = sample_box(box_key, self.cutmix, size)
        if not self.mixup:
            return Draw(lam, jnp.bool_(True), box)
        cut = jax.random.bernoulli(switch_key, self.switch_prob)
        return Draw(jnp.where(cut, lam, sample_lambda(mixup_key, self.mixup)), cut, box)


OFF = Mixing()


def sample_lambda(key: jax.Array, p: float) -> jax.Array:
    """Mixup's lambda: draws one from Beta(p, p), returns the larger of it and 1 - it, float32."""
    lam = jax.random.beta(key, p, p)
    return jnp.maximum(lam, 1 - lam)


def sample_box(key: jax.Array, p: float, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """CutMix's lambda, float32 [], and box, int32 [4] (section 3.1 and the authors' code).

    A box with a share 1 - lambda' of the image, lambda' ~ Beta(p, p), and its aspect ratio is put
    around a uniformly random pixel. What lies outside of the image is cut off; lambda is the share
    of the image that the box leaves.
    """
    lambda_key, centre_key = jax.random.split(key)
    sides = jnp.array(size)
    half = (jnp.sqrt(1 - jax.random.beta(lambda_key, p, p)) * sides).astype(jnp.int32) // 2
    centre = jax.random.randint(centre_key, (2,), 0, sides)
    first, end = jnp.clip(centre - half, 0, sides), jnp.clip(centre + half, 0, sides)
    lam = 1 - jnp.prod(end - first) / (size[0] * size[1])
    return lam, jnp.concatenate([first, end])


def mix(draw: Draw, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mixes images, float32 [B, H, W, 3], and targets, float32 [B, K], of a global batch."""
    weights = draw.pixel_weights(images.shape[1:3])
    return tuple(
        weight * x + (1 - weight) * jnp.roll(x, 1, axis=0)
        for weight, x in ((weights, images), (draw.lam, targets))
    )
