"""The loss and the gradient of single examples, one on each device at a time."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from mixer import batch as batch_lib
from mixer.batch import Batch
from mixer.training import losses


def make_per_example(
    model: nn.Module,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    label_smoothing: float,
    mesh: Mesh,
) -> Callable[[Any, Batch], dict[str, jax.Array]]:
    """(params, batch) -> "loss" and "grad_norm", float32 [B]; to be jitted.

    Of each image by itself, unmixed, with its own label, and as in evaluation: without dropout and
    stochastic depth. In memory there is one gradient a device at a time.
    """

    def one(params, image, label):
        def objective(params):
            logits = model.apply({"params": params}, batch_lib.to_model_input(image[None]))
            return loss(logits, losses.targets(label[None], model.num_classes, label_smoothing))[0]

        value, grads = jax.value_and_grad(objective)(params)
        return {"loss": value, "grad_norm": optax.tree.norm(grads)}

    def per_example(params, batch: Batch):
        # Group i takes the rows i, k + i, 2k + i, ...: one of each device's own.
        devices = mesh.shape["data"] * mesh.shape["fsdp"]
        groups = len(batch["label"]) // devices

        def split(x):
            return x.reshape(devices, groups, *x.shape[1:]).swapaxes(0, 1)

        found = jax.lax.map(
            lambda rows: jax.vmap(one, (None, 0, 0))(params, *rows),
            (split(batch["image"]), split(batch["label"])),
        )
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1), found)

    return per_example
