"""Times our training and inference steps beside the paper's listing in plain Flax, as Markdown.

    python tools/step_speed.py --models=Mixer-S/16,Mixer-B/32 --batch_sizes=16,64 --rounds=7

With --table it also writes docs/results/step_speed.csv, for tools/results.py.

The reference is a restatement of the paper's listing (appendix E) with the shortest training step
there is: softmax cross-entropy, optax's clipping, Adam and weight decay. Ours is the step that
config.run=train compiles, which also converts uint8 images and computes the logged metrics. With
torch and timm installed, timm's Mixer is timed too. On an accelerator all compute in bfloat16, and
timm's is compiled by torch.compile.

In each round all take one turn, in an order that is reversed from round to round, so that other
load affects all alike. A ratio is the median over the rounds of the reference's time divided by the
other's in the same round: above 1 is faster than the reference. "A/A" is a second copy of the
reference: how far from 1 it is, is what a ratio can be wrong by.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

import mixer
from mixer import defaults
from mixer.batch import to_model_input
from mixer.training import losses, meshes, optimizer, schedules, step
from tools.csv_tables import markdown, write

SIZE, CLASSES = 224, 1000
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0
REFERENCE, CONTROL, OURS, TIMM = "listing", "A/A", "ours", "timm"
# timm's names of the models.
TIMM_NAMES = {"Mixer-S/32": "mixer_s32_224", "Mixer-S/16": "mixer_s16_224"}
TIMM_NAMES |= {"Mixer-B/32": "mixer_b32_224", "Mixer-B/16": "mixer_b16_224"}


class Listing(nn.Module):
    """The paper's model, from its equations: token mixing on columns, channel mixing on rows."""

    patch_size: int
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    dtype: str

    @nn.compact
    def __call__(self, x):
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.hidden_dim, patch, patch, dtype=self.dtype)(x)
        x = x.reshape(len(x), -1, self.hidden_dim)

        def mlp(y, width):
            hidden = nn.gelu(nn.Dense(width, dtype=self.dtype)(y))
            return nn.Dense(y.shape[-1], dtype=self.dtype)(hidden)

        for _ in range(self.num_blocks):
            tokens = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
            x = x + jnp.swapaxes(mlp(tokens, self.tokens_mlp_dim), 1, 2)
            x = x + mlp(nn.LayerNorm()(x), self.channels_mlp_dim)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(axis=1))


def listing_of(model) -> Listing:
    """The listing with the sizes of one of our Mixers."""
    fields = ("patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
    return Listing(**{field: getattr(model, field) for field in (*fields, "dtype")})


def batch_of(size: int) -> dict[str, np.ndarray]:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, SIZE, SIZE, 3), np.uint8)
    return {"image": image, "label": rng.integers(0, CLASSES, size, np.int32)}


def of_listing(model, batch, training: bool) -> Callable[[], None]:
    """A call that does one step of the reference."""
    listing = listing_of(model)
    image = jnp.asarray(to_model_input(batch["image"]))
    params = jax.jit(listing.init)(jax.random.key(0), image[:1])["params"]
    if not training:
        apply = jax.jit(lambda params, image: listing.apply({"params": params}, image))
        return lambda: jax.block_until_ready(apply(params, image))
    chain = optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(RATE, weight_decay=DECAY, mask=_kernels)
    )

    def update(params, state, image, label):
        def loss(params):
            logits = listing.apply({"params": params}, image)
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = chain.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    compiled = jax.jit(update, donate_argnums=(0, 1))
    kept = [params, chain.init(params)]
    label = jnp.asarray(batch["label"])

    def call():
        *kept[:], value = compiled(*kept, image, label)
        jax.block_until_ready(value)

    return call


def _kernels(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def of_ours(model, batch, training: bool) -> Callable[[], None]:
    """A call that does one of our steps, as config.run=train and predict compile them."""
    mesh = meshes.make_mesh(devices=jax.devices()[:1])
    rows = meshes.put(batch, meshes.batch_sharding(mesh), len(batch["label"]))
    shapes = jax.eval_shape(lambda: step.init_params(model, (SIZE, SIZE), 0))
    schedule = schedules.make_schedule("constant", base=RATE, end=0, warmup=0, total=1)
    chain = optimizer.make_optimizer("adam", shapes, schedule, weight_decay=DECAY, clip_norm=CLIP)
    state = step.create_state(
        mesh, lambda p: step.init_state(model, chain, (SIZE, SIZE), seed=0, ema=False, params=p)
    )
    if not training:
        shard = meshes.shard_activations(model.apply, mesh)
        apply = jax.jit(lambda params, image: shard({"params": params}, to_model_input(image)))
        return lambda: jax.block_until_ready(apply(state.params, rows["image"]))
    loss = losses.LOSSES["softmax_xent"]
    made = step.make_step(model, loss, chain, schedule, seed=0, mesh=mesh)
    compiled, kept = step.compile_step(made, state, mesh, rows), [state]

    def call():
        kept[0], metrics = compiled(kept[0], rows)
        jax.block_until_ready(metrics)

    return call


def of_timm(name: str, batch, training: bool) -> Callable[[], None]:
    """A call that does one step of timm's model in PyTorch; on a GPU compiled and in bfloat16."""
    import timm
    import torch

    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    model = timm.create_model(TIMM_NAMES[name], num_classes=CLASSES).to(device)
    apply = torch.compile(model) if gpu else model
    precision = torch.autocast(device, torch.bfloat16, enabled=gpu)
    image = torch.from_numpy(np.array(to_model_input(batch["image"]))).permute(0, 3, 1, 2)
    image = image.contiguous().to(device)
    label = torch.from_numpy(batch["label"]).long().to(device)
    wait = torch.cuda.synchronize if gpu else lambda: None
    if not training:
        model.eval()

        def call():
            with torch.inference_mode(), precision:
                apply(image)
            wait()

        return call
    chain = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=gpu)

    def call():
        chain.zero_grad()
        with precision:
            loss = torch.nn.functional.cross_entropy(apply(image), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        chain.step()
        wait()

    return call


def timed(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one that compiles."""
    for call in calls.values():
        call()
    found = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            calls[name]()
            found[name].append(time.perf_counter() - began)
    return found


def ratio(found: dict[str, list[float]], name: str) -> float:
    """How many times as fast as the reference."""
    pairs = zip(found[REFERENCE], found[name], strict=True)
    return statistics.median(reference / other for reference, other in pairs)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="Mixer-S/16,Mixer-B/32")
    parser.add_argument("--batch_sizes", default="16,64")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    with_timm = all(map(importlib.util.find_spec, ("timm", "torch")))
    heading = ("model", "batch", "step", "listing, ms", CONTROL, OURS, TIMM)
    print(markdown(heading, []), flush=True)
    lines = []
    dtype = defaults.dtype(jax.devices()[0].platform)
    for name in args.models.split(","):
        model = mixer.create_model(name, num_classes=CLASSES, dtype=dtype)
        for size in map(int, args.batch_sizes.split(",")):
            batch = batch_of(size)
            for training in (True, False):
                calls = {
                    REFERENCE: of_listing(model, batch, training),
                    CONTROL: of_listing(model, batch, training),
                    OURS: of_ours(model, batch, training),
                }
                if with_timm and name in TIMM_NAMES:
                    calls[TIMM] = of_timm(name, batch, training)
                found = timed(calls, args.rounds)
                cells = [f"{statistics.median(found[REFERENCE]) * 1e3:.0f}"]
                for other in (CONTROL, OURS, TIMM):
                    cells.append(f"{ratio(found, other):.3f}" if other in found else "-")
                kind = "training" if training else "inference"
                lines.append(dict(zip(heading, [name, str(size), kind, *cells], strict=True)))
                print(f"| {' | '.join(lines[-1].values())} |", flush=True)
                if args.table:
                    write("step_speed", lines)


if __name__ == "__main__":
    main()
