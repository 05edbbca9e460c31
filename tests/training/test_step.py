import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from mixer import errors
from mixer.models.mixer import Mixer
from mixer.training import losses, meshes, optimizer, schedules, step
from mixer.training.mixing import OFF, Mixing

SIZE, BATCH = (8, 8), 16


def mesh_of(count):
    devices = np.array(jax.devices()[:count]).reshape(count, 1, 1)
    return Mesh(devices, meshes.AXES, axis_types=(AxisType.Auto,) * 3)


def host_batch(seed, max_labels=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (BATCH, *SIZE, 3)).astype(np.uint8)
    label = rng.integers(0, 5, BATCH).astype(np.int32)
    if max_labels:
        label = rng.integers(-3, 5, (BATCH, max_labels)).clip(-1).astype(np.int32)
        label[3], label[4] = -1, 2  # a row without a label, and one with a label many times
    return {
        "image": image,
        "label": label,
        "mask": np.ones(BATCH, bool),
    }


@functools.cache
def run(devices, steps=3, ema=0.2, seed=0, mixing=OFF, smoothing=0.0, max_labels=0, **fields):
    """Each call with other arguments compiles a step: the tests share what they can."""
    model = Mixer(
        num_classes=5,
        patch_size=4,
        num_blocks=1,
        hidden_dim=8,
        tokens_mlp_dim=6,
        channels_mlp_dim=16,
        **fields,
    )
    mesh = mesh_of(devices)
    schedule = schedules.make_schedule("constant", base=0.01, end=0, warmup=0, total=steps)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SIZE, 3)))["params"]
    chain = optimizer.make_optimizer("sgd", shapes, schedule, weight_decay=0.1, clip_norm=1.0)
    init = lambda p: step.init_state(model, chain, SIZE, seed=seed, ema=ema > 0, params=p)
    state = step.create_state(mesh, init)
    train_step = step.make_step(
        model,
        losses.sigmoid_xent if max_labels else losses.softmax_xent,
        chain,
        schedule,
        seed=seed,
        label_smoothing=smoothing,
        mixing=mixing,
        ema_decay=ema,
        mesh=mesh,
    )
    place = meshes.batch_sharding(mesh)
    batch = meshes.put(host_batch(0, max_labels), place, BATCH)
    compiled = step.guarded(step.compile_step(train_step, state, mesh, batch))
    history = []
    for t in range(steps):
        before = jax.device_get(state)
        batch = meshes.put(host_batch(t, max_labels), place, BATCH)
        state, metrics = compiled(state, batch)
        history.append((before, jax.device_get(state), jax.device_get(metrics)))
    return history


RANDOM = {"dropout": 0.2, "stochastic_depth": 0.3, "mixing": Mixing(0.5, 1.0)}


@pytest.mark.parametrize("max_labels", [0, 4])
def test_eight_devices_train_like_one(max_labels):
    fields = RANDOM | {"max_labels": max_labels}
    alone, spread = run(1, **fields), run(8, **fields)
    for (_, a, ma), (_, b, mb) in zip(alone, spread, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-6), a, b)
        for name in ma:
            np.testing.assert_allclose(ma[name], mb[name], rtol=1e-4)


def test_randomness_comes_from_seed_and_step():
    fields = RANDOM | {"max_labels": 0}
    first, other = run(1, **fields), run(1, seed=1, **fields)
    again = run.__wrapped__(1, **fields)
    assert first[2][2] == again[2][2]
    assert first[2][2]["loss"] != other[2][2]["loss"]
    without = run(1)
    assert without[2][2]["loss"] != first[2][2]["loss"]


def test_metrics_against_numpy():
    before, after, metrics = run(1)[1]
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    moved = flat(after.params) - flat(before.params)
    np.testing.assert_allclose(metrics["update_norm"], np.linalg.norm(moved), rtol=1e-3)
    np.testing.assert_allclose(metrics["param_norm"], np.linalg.norm(flat(after.params)), rtol=1e-5)
    assert metrics["learning_rate"] == np.float32(0.01)
    assert 0 <= metrics["accuracy"] <= 1 and after.step == 2


def test_several_labels_against_numpy():
    """At the first step the head is zero, so all logits are equal and argmax gives class 0."""
    label = host_batch(0, 4)["label"]
    hot = np.zeros((BATCH, 5))
    for row, classes in zip(hot, label, strict=True):
        row[[k for k in set(classes.tolist()) if k >= 0]] = 1
    assert hot[3].sum() == 0 and hot[4].sum() == 1
    np.testing.assert_array_equal(losses.targets(jnp.asarray(label), 5), hot)
    smooth = losses.targets(jnp.asarray(label), 5, 0.1)
    np.testing.assert_allclose(smooth, 0.9 * hot + 0.1 / 5, rtol=1e-6)
    before, after, metrics = run(1, max_labels=4)[0]
    assert metrics["loss"] == pytest.approx(5 * np.log(2), rel=1e-6)
    assert metrics["accuracy"] == pytest.approx(hot[hot.any(1)][:, 0].mean())
    # The gradient of the head's bias is the mean of sigmoid(0) - target; it is clipped.
    unit = lambda vector: vector / np.linalg.norm(vector)
    moved = after.params["head"]["bias"] - before.params["head"]["bias"]
    np.testing.assert_allclose(unit(moved), unit((hot - 0.5).mean(0)), rtol=1e-5)
    smoothed = run(1, ema=0, max_labels=4, smoothing=0.2)[1][2]["loss"]
    assert smoothed != run(1, max_labels=4)[1][2]["loss"]


def test_several_labels_need_no_buffer_per_label():
    """With ImageNet-21k's classes, ten labels need at most a byte more per class and image."""
    rows, classes, most = 32, 21_843, 10

    def loss(logits, label):
        return losses.sigmoid_xent(logits, losses.targets(label, classes)).mean()

    def temporary(*shape):
        logits = jax.ShapeDtypeStruct((rows, classes), jnp.float32)
        label = jax.ShapeDtypeStruct(shape, jnp.int32)
        compiled = jax.jit(jax.value_and_grad(loss)).lower(logits, label).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(rows, most) - temporary(rows) <= 1.01 * rows * classes


def test_ema_against_its_formula():
    history = run(1)
    want = history[0][0].params
    for t, (_, after, _) in enumerate(history):
        decay = min(0.2, (1 + t) / (10 + t))
        want = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, want, after.params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), after.ema, want)
    assert run(1, ema=0, max_labels=4, smoothing=0.2)[0][1].ema is None


def test_batch_sizes_that_do_not_divide_are_refused():
    mesh = mesh_of(8)
    meshes.check_batch_size(64, mesh, "batch_size")
    with pytest.raises(errors.BadInput, match="batch_size=60 .* 8 devices: use 56 or 64"):
        meshes.check_batch_size(60, mesh, "batch_size")
    with pytest.raises(errors.BadInput, match="use 8"):
        meshes.check_batch_size(0, mesh, "batch_size")
    with pytest.raises(errors.BadInput, match="8 devices times 4 micro-batches: use 32 or 64"):
        meshes.check_batch_size(40, mesh, "batch_size", 4)


def test_rows_are_read_from_the_sharding():
    assert meshes.local_rows(meshes.batch_sharding(mesh_of(8)), 16) == list(range(16))
    rows = meshes.put(host_batch(1), meshes.batch_sharding(mesh_of(8)), BATCH)
    np.testing.assert_array_equal(rows["label"], host_batch(1)["label"])
    assert len(rows["image"].sharding.device_set) == 8
