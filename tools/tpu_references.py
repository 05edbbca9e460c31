"""Compiles the training steps of other code for TPU slices: docs/results/tpu_references.csv.

    python tools/tpu_references.py --big_vision=CHECKOUT --vision_transformer=CHECKOUT
    python tools/results.py

It needs requirements-tpu-plan.txt and checkouts of google-research/big_vision and
google-research/vision_transformer, whose models it imports; one that is not given is left out.
Both are written for float32 and replicated parameters. The step around them is restated here, as
big_vision's trainer does it: mixup, sigmoid cross-entropy, clipping, Adam and weight decay by
optax, and the three norms that it logs. FLOPs, memory and traffic are counted as by
config.run=plan.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

import mixer
from mixer.planning import hlo, slices, traffic
from mixer.training import meshes
from tools.csv_tables import write

MODELS = ("B/16", "L/16")
SLICES = ("v3-128", "v5litepod-64", "v6e-64")
BATCH, SIZE, CLASSES = 4096, 224, 1000


def big_vision(checkout: Path, model: str):
    """(init, apply) of big_vision's Mixer with the stochastic depth of the paper."""
    sys.path.insert(0, str(checkout))
    made = importlib.import_module("big_vision.models.mlp_mixer").Model(
        CLASSES, variant=model, stoch_depth=0.1
    )

    def apply(params, images, key):
        return made.apply({"params": params}, images, train=True, rngs={"dropout": key})[0]

    return made.init, apply


def vision_transformer(checkout: Path, model: str):
    """(init, apply) of vision_transformer's Mixer, which has no stochastic depth."""
    sys.path.insert(0, str(checkout))
    ours = mixer.create_model(f"Mixer-{model}", num_classes=CLASSES)
    sizes = ("num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
    patches = types.SimpleNamespace(size=(ours.patch_size, ours.patch_size))
    made = importlib.import_module("vit_jax.models_mixer").MlpMixer(
        patches=patches, num_classes=CLASSES, **{field: getattr(ours, field) for field in sizes}
    )

    def init(key, images):
        return made.init(key, images, train=False)

    return init, lambda params, images, key: made.apply({"params": params}, images, train=True)


CODE = {"big_vision": big_vision, "vision_transformer": vision_transformer}


def compiled(init, apply, name: str) -> jax.stages.Compiled:
    """The step for a slice."""
    chain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(0.1, mask=_kernels),
        optax.scale_by_learning_rate(1e-3),
    )

    def step(params, state, images, labels, key):
        mixup_key, dropout_key = jax.random.split(key)
        share = jax.random.beta(mixup_key, 0.5, 0.5)
        share = jnp.maximum(share, 1 - share)
        images, labels = (
            share * x + (1 - share) * jnp.roll(x, 1, axis=0) for x in (images, labels)
        )

        def loss(params):
            logits = apply(params, images, dropout_key)
            return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = chain.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        norms = [optax.global_norm(tree) for tree in (grads, params, updates)]
        return params, state, value, norms

    mesh = meshes.make_mesh(devices=slices.devices(name))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = meshes.batch_sharding(mesh)
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    params = jax.eval_shape(init, jax.random.key(0), image)["params"]
    state = jax.eval_shape(chain.init, params)
    images = jax.ShapeDtypeStruct((BATCH, *image.shape[1:]), jnp.float32)
    labels = jax.ShapeDtypeStruct((BATCH, CLASSES), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    jitted = jax.jit(step, donate_argnums=(0, 1), in_shardings=(whole, whole, rows, rows, whole))
    return jitted.lower(params, state, images, labels, key).compile()


def _kernels(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)


def line(code: str, name: str, model: str, step: jax.stages.Compiled) -> dict:
    """A line of the file."""
    text = step.as_text()
    program = hlo.read(text)
    return {
        "code": code,
        "slice": name,
        "model": model,
        "flops": 2 * program.macs,
        "accessed_bytes": traffic.accessed(text),
        "temporary_bytes": step.memory_analysis().temp_size_in_bytes,
        "cycles": program.cycles,
        "sent_bytes": sum(program.sent().values()),
    }


def main() -> None:
    """Compiles, and writes the file after each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for code in CODE:
        parser.add_argument(f"--{code}", type=Path)
    args = parser.parse_args()
    lines = []
    for code, build in CODE.items():
        checkout = getattr(args, code)
        if checkout is None:
            continue
        for model in MODELS:
            made = build(checkout, model)
            for name in SLICES:
                print(code, model, name, flush=True)
                lines.append(line(code, name, model, compiled(*made, name)))
                write("tpu_references", lines)


if __name__ == "__main__":
    main()
