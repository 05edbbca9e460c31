"""The forward images/s and FLOPs of a small model of each family on this machine, as Markdown.

    python tools/forward_speed.py --batch_size=8 --rounds=5

Parameters are random, the dtype is float32, the resolution the model's own. The models take turns
in each round, so that other load on the machine affects all alike. Ratios are to Mixer-S/16's
median.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

import mixer
from mixer.planning import flops

REFERENCE = "Mixer-S/16"
# Name and resolution.
MODELS = {
    REFERENCE: 224,
    "ViT-S/16": 224,
    "BiT-R50x1": 224,
    "ResMLP-S12": 224,
    "gMLP-S": 224,
    "ConvNeXt-T": 224,
    "NFNet-F0": 192,
    "HaloNet-H0": 256,
}


def prepared(name: str, size: int, batch_size: int):
    """(function that computes one batch, multiply-accumulates per image, number of parameters)."""
    model = mixer.create_model(name, num_classes=1000)
    images = jnp.ones((batch_size, size, size, 3))
    params = jax.jit(model.init)(jax.random.key(0), images[:1])["params"]
    apply = jax.jit(lambda params, images: model.apply({"params": params}, images))

    def run():
        jax.block_until_ready(apply(params, images))

    run()
    numbers = sum(x.size for x in jax.tree.leaves(params))
    return run, flops.forward_macs(model, (size, size)), numbers


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    models = {name: prepared(name, size, args.batch_size) for name, size in MODELS.items()}
    rates = {name: [] for name in models}
    for _ in range(args.rounds):
        for name, (run, *_) in models.items():
            began = time.perf_counter()
            run()
            rates[name].append(args.batch_size / (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    verified = mixer.list_models(verbose=True)
    print("| model | verified by | pixels | parameters, millions | GMACs | images/s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (_, macs, size) in models.items():
        rate = medians[name]
        print(
            f"| {name} | {verified[name]} | {MODELS[name]} | {size / 1e6:.1f} | {macs / 1e9:.2f} | "
            f"{rate:.1f} | {rate / medians[REFERENCE]:.2f} |"
        )


if __name__ == "__main__":
    main()
