"""Labels that are vectors, in the step: soft targets and regression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType, Mesh

from mixer import errors
from mixer.data.sources import label_kinds
from mixer.training import losses, meshes, per_example, step

SIZE, BATCH, OUTPUTS = (4, 4), 16, 3


class Linear(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(self.num_classes, name="head")(images.reshape(len(images), -1))


def mesh_of(count):
    devices = np.array(jax.devices()[:count]).reshape(count, 1, 1)
    return Mesh(devices, meshes.AXES, axis_types=(AxisType.Auto,) * 3)


@functools.cache
def images():
    return np.random.default_rng(0).integers(0, 256, (BATCH, *SIZE, 3)).astype(np.uint8)


def run(label, loss="softmax_xent", devices=1, steps=2, rate=0.1, **how):
    """The parameters after some steps on one batch, and the metrics of each."""
    model, mesh = Linear(OUTPUTS), mesh_of(devices)
    optimizer = optax.adam(rate)
    regression = loss == losses.REGRESSION
    train_step = step.make_step(
        model,
        losses.LOSSES[loss],
        optimizer,
        optax.constant_schedule(rate),
        seed=0,
        regression=regression,
        mesh=mesh,
        **how,
    )
    init = lambda p: step.init_state(model, optimizer, SIZE, seed=0, ema=False, params=p)
    state = step.create_state(mesh, init)
    batch = {"image": images(), "label": label, "mask": np.ones(BATCH, bool)}
    batch = meshes.put(batch, meshes.batch_sharding(mesh), BATCH)
    compiled = step.compile_step(train_step, state, mesh, batch)
    history = []
    for _ in range(steps):
        state, metrics = compiled(state, batch)
        history.append(metrics)
    numbers = [{name: float(value) for name, value in each.items()} for each in history]
    return jax.device_get(state.params["head"]), numbers


@pytest.mark.parametrize("loss", ["softmax_xent", "sigmoid_xent"])
def test_one_hot_vectors_train_as_their_classes(loss):
    classes = np.arange(BATCH, dtype=np.int32) % OUTPUTS
    one = run(classes, loss, label_smoothing=0.1)
    other = run(np.eye(OUTPUTS, dtype=np.float32)[classes], loss, label_smoothing=0.1)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_distribution_against_numpy():
    rng = np.random.default_rng(1)
    soft = rng.dirichlet(np.ones(OUTPUTS), BATCH).astype(np.float32)
    logits = rng.standard_normal((BATCH, OUTPUTS)).astype(np.float32)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = losses.targets(jnp.asarray(soft), OUTPUTS, 0.1)
    np.testing.assert_allclose(targets, 0.9 * soft + 0.1 / OUTPUTS, rtol=1e-6)
    found = losses.LOSSES["soft_xent"](logits, targets)
    np.testing.assert_allclose(found, -(targets * log_p).sum(axis=1), rtol=1e-5)


@pytest.fixture(scope="module")
def numbers():
    """Targets [N, K] that are a linear function of the pixels."""
    weights = np.random.default_rng(3).standard_normal((inputs().shape[1], OUTPUTS)) / 7
    return (inputs() @ weights + np.array([0, 5, -40])).astype(np.float32)


def inputs():
    return np.asarray(images(), np.float32).reshape(BATCH, -1) / 255 * 2 - 1


def first_metrics(params, numbers):
    """The loss of each row, and the norm of the gradient, in NumPy."""
    error = inputs() @ params["kernel"] + params["bias"] - numbers
    gradient = np.concatenate([inputs().T @ error, error.sum(axis=0)[None]])
    return np.square(error).mean(axis=1), 2 / error.size * np.linalg.norm(gradient)


def test_a_linear_problem_is_learnt(numbers):
    """The first step against NumPy; the last is exact."""
    model = Linear(OUTPUTS)
    params = jax.device_get(jax.jit(lambda: step.init_params(model, SIZE, 0))())
    each, norm = first_metrics(params["head"], numbers)
    head, metrics = run(numbers, "mse", steps=400)
    assert metrics[0]["loss"] == pytest.approx(each.mean(), rel=1e-5)
    assert metrics[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert metrics[-1]["loss"] < 1e-3 and "accuracy" not in metrics[0]
    np.testing.assert_allclose(inputs() @ head["kernel"] + head["bias"], numbers, atol=0.2)
    of_each = per_example.make_per_example(model, losses.mse, label_smoothing=0.0, mesh=mesh_of(1))
    found = jax.jit(of_each)(params, {"image": images(), "label": numbers})
    np.testing.assert_allclose(found["loss"], each, rtol=1e-4)


def test_devices_and_micro_batches_change_no_loss(numbers):
    plain, split = run(numbers, "mse"), run(numbers, "mse", devices=8, micro_batches=2)
    for one, other in zip(plain[1], split[1], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_every_loss_says_what_it_takes():
    assert losses.TAKES.keys() == losses.LOSSES.keys()
    assert {kind for kinds in losses.TAKES.values() for kind in kinds} == set(label_kinds.KINDS)


@pytest.mark.parametrize(
    ("other", "ours"),
    [("BCE", "sigmoid_xent"), ("cross_entropy", "softmax_xent"), ("sofmax_xent", "softmax_xent")],
)
def test_the_names_of_other_code_lead_to_ours(other, ours):
    with pytest.raises(errors.BadInput, match=f"config.loss '{other}'. .* mean '{ours}'"):
        losses.named(other)
