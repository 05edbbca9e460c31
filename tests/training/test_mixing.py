"""Mixup and CutMix: the laws of what is drawn, what a draw does, and that a step does it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mixer.batch import to_model_input
from mixer.training import meshes, step
from mixer.training.mixing import Mixing, mix

SIZE, COUNT = (12, 20), 9_000


@functools.cache
def drawn(mixing):
    """A draw for each of the first steps of seed 0, stacked."""
    return jax.device_get(
        jax.jit(jax.vmap(lambda t: step.draw_of(mixing, 0, t, SIZE)))(np.arange(COUNT))
    )


def test_mixup_is_one_lambda_for_the_whole_batch():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((6, 2, 2, 3)).astype(np.float32)
    targets = np.eye(6, dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    mixed, labels = jax.jit(
        jax.vmap(lambda key: mix(Mixing(0.5).draw((2, 2), key), images, targets))
    )(keys)
    parts = np.asarray(labels[:, 0, 0])
    assert parts.min() >= 0.5
    for found, x in ((mixed, images), (labels, targets)):
        part = parts.reshape(-1, *(1,) * x.ndim)
        want = part * x + (1 - part) * np.roll(x, 1, axis=0)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    # max(l, 1 - l) of the arcsine law, Beta(1/2, 1/2): its quartiles are sin(pi (1 + q) / 4)^2.
    for q in (0.25, 0.5, 0.75):
        want = np.sin(np.pi * (1 + q) / 4) ** 2
        np.testing.assert_allclose(np.quantile(parts, q), want, atol=0.06)


def test_cutmix_pastes_one_box_and_shares_the_target_by_its_area():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, *SIZE, 3)).astype(np.float32)
    # Several labels each; the last two share one, which stays whole.
    targets = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], np.float32)
    draws = jax.tree.map(lambda x: x[:20], drawn(Mixing(cutmix=1.0)))
    done = jax.device_get(jax.jit(jax.vmap(mix, (0, None, None)))(draws, images, targets))
    for lam, cut, box, mixed, shared in zip(*draws, *done, strict=True):
        top, left, bottom, right = box
        want, before = images.copy(), np.roll(images, 1, axis=0)
        want[:, top:bottom, left:right] = before[:, top:bottom, left:right]
        np.testing.assert_array_equal(mixed, want)
        kept = 1 - (bottom - top) * (right - left) / (SIZE[0] * SIZE[1])
        assert cut and lam == pytest.approx(kept, abs=1e-6)
        want = kept * targets + (1 - kept) * np.roll(targets, 1, axis=0)
        np.testing.assert_allclose(shared, want, atol=1e-6)
        assert shared[3, 3] == pytest.approx(1)


@pytest.mark.parametrize("p", [0.4, 1.0])
def test_boxes_follow_the_law_of_the_authors_code(p):
    """Done with NumPy: both sides times the root of the share, a uniform centre, clipped."""
    rng, (height, width) = np.random.default_rng(1), SIZE
    cut = np.sqrt(1 - rng.beta(p, p, COUNT))
    tall, wide = (cut * height).astype(int), (cut * width).astype(int)
    y, x = rng.integers(height, size=len(cut)), rng.integers(width, size=len(cut))
    top, bottom = (y - tall // 2).clip(0, height), (y + tall // 2).clip(0, height)
    left, right = (x - wide // 2).clip(0, width), (x + wide // 2).clip(0, width)
    box = drawn(Mixing(cutmix=p)).box
    for ours, theirs in zip(box.T, (top, left, bottom, right), strict=True):
        bins = np.arange(width + 2)
        ours, theirs = (np.histogram(one, bins)[0] / len(cut) for one in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_a_step_draws_one_of_the_two():
    both, alone = drawn(Mixing(0.8, 1.0, 0.3)), drawn(Mixing(0.8))
    assert np.mean(both.cut) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(both.lam[~both.cut], alone.lam[~both.cut])
    cut = drawn(Mixing(cutmix=1.0))
    np.testing.assert_array_equal(both.lam[both.cut], cut.lam[both.cut])
    np.testing.assert_array_equal(both.box, cut.box)
    # What is drawn does not depend on which of the two is drawn.
    assert np.mean(cut.lam[both.cut]) == pytest.approx(np.mean(cut.lam[~both.cut]), abs=0.03)


class Pixels(nn.Module):
    """Logits that are the image's numbers, times a parameter that starts at 1."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train=False):
        return images.reshape(len(images), -1) * self.param("one", nn.initializers.ones, ())


def test_a_step_does_what_is_said_of_it():
    """Squares depend on which images are mixed, and on how much."""
    size, seed, mixing = (4, 6), 3, Mixing(0.8, 1.0)
    model, optimizer, mesh = Pixels(4 * 6 * 3), optax.sgd(0.0), meshes.make_mesh()
    weights = np.random.default_rng(0).standard_normal((2, 4 * 6 * 3)).astype(np.float32)

    def loss(logits, targets):
        return (logits @ weights[0] + 50 * targets @ weights[1]) ** 2

    init = lambda params: step.init_state(model, optimizer, size, seed=seed, ema=False)
    do = step.make_step(model, loss, optimizer, lambda t: 0.0, seed=seed, mixing=mixing, mesh=mesh)
    rng, kinds = np.random.default_rng(1), set()
    place, state = meshes.batch_sharding(mesh), step.create_state(mesh, init)
    for t in range(6):
        batch = {
            "image": rng.integers(0, 256, (8, *size, 3)).astype(np.uint8),
            "label": rng.integers(0, 72, 8).astype(np.int32),
            "mask": np.ones(8, bool),
        }
        images, targets = (
            to_model_input(batch["image"]),
            np.eye(72, dtype=np.float32)[batch["label"]],
        )
        draw = step.draw_of(mixing, seed, t, size)
        kinds.add(bool(draw.cut))
        mixed, shares = (np.asarray(x) for x in mix(draw, jnp.asarray(images), targets))
        batch = meshes.put(batch, place, 8)
        if not t:
            do = step.compile_step(do, state, mesh, batch)
        state, metrics = do(state, batch)
        wanted = loss(mixed.reshape(8, -1), shares)
        np.testing.assert_allclose(metrics["loss"], wanted.mean(), rtol=1e-4)
    assert kinds == {True, False}
