"""The loss and the gradient norm of every single example of a batch, for `config.run=replay`."""

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
    """Makes (params, batch) -> {"loss", "grad_norm"}, float32 [B]; call it under jit.

    Each image is used without mixup, dropout and stochastic depth. Each device holds one gradient
    at a time.
    """

    def one(params, image, label):
        def objective(params):
            logits = model.apply({"params": params}, batch_lib.to_model_input(image[None]))
            return loss(logits, losses.targets(label[None], model.num_classes, label_smoothing))[0]

        value, grads = jax.value_and_grad(objective)(params)
        return {"loss": value, "grad_norm": optax.tree.norm(grads)}

    def per_example(params, batch: Batch):
        # Group i of k takes rows i, k + i, 2k + i, ..., so that every row stays on its device.
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
