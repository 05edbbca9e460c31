"""Several views of each test image: crops and mirror images, whose probabilities are averaged.

Krizhevsky et al. 2012 (section 4.1) average the softmax of ten patches: the four corners and the
centre, and their mirror images.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixer import errors


@dataclasses.dataclass(frozen=True)
class Views:
    """Which views there are of an image.

    Attributes:
      crops: how many crops; the host makes them, one below the other.
      mirrored: whether there is a mirror image of each, which the device makes.
    """

    crops: int = 1
    mirrored: bool = False

    @property
    def count(self) -> int:
        """How many views there are; each costs a forward pass."""
        return self.crops * (1 + self.mirrored)


# By their names in configs.
VIEWS = {
    "": Views(),
    "flip": Views(mirrored=True),
    "five_crops": Views(crops=5),
    "ten_crops": Views(crops=5, mirrored=True),
}


def parse(name: str, key: str) -> Views:
    """The views of this name.

    Raises:
      BadInput: it is unknown.
    """
    if name not in VIEWS:
        raise errors.unknown(f"config.{key}", name, filter(None, VIEWS))
    return VIEWS[name]


def averaged(apply: Callable, views: Views, outputs: str) -> Callable:
    """`apply`, averaged over the views of an image.

    If its outputs are the logits of a "softmax" or a "sigmoid", the softmax or sigmoid of the
    result is the mean of the views'; if they are "numbers", the result is their mean. The views are
    computed in turn, so that memory does not grow.

    Args:
      apply: (params, uint8 [N, H, W, C]) -> outputs [N, K].
      outputs: what they are, as `ModelCard.outputs` says.

    Returns:
      (params, uint8 [N, crops * H, W, C]) -> float32 [N, K].
    """
    if views.count == 1:
        return apply

    def call(params, images):
        count, tall, width, channels = images.shape
        each = images.reshape(count, views.crops, tall // views.crops, width, channels)
        seen = each.swapaxes(0, 1)
        if views.mirrored:
            seen = jnp.concatenate([seen, seen[:, :, :, ::-1]])
        found = jax.lax.map(lambda view: apply(params, view).astype(jnp.float32), seen)
        if outputs == "numbers":
            return found.mean(axis=0)
        if outputs == "sigmoid":
            return _log_mean(jax.nn.log_sigmoid(found)) - _log_mean(jax.nn.log_sigmoid(-found))
        return _log_mean(jax.nn.log_softmax(found))

    return call


def _log_mean(log_p: jax.Array) -> jax.Array:
    """The logarithm of the mean over the first axis of exp(log_p)."""
    return jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(log_p))
