"""The losses of a distillation in NumPy, and steps with a teacher on one and eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mixer import batch as batch_lib
from mixer.training import distillation, losses, meshes, placement, step
from mixer.training.distillation import Distillation
from mixer.training.mixing import OFF, Mixing

RNG = np.random.default_rng(0)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_soft_loss_against_numpy(temperature):
    student, teacher = RNG.standard_normal((2, 6, 5)) * 3
    found = distillation.soft(temperature)(*map(jnp.float32, (student, teacher)))
    log_q, log_p = (log_softmax(x / temperature) for x in (student, teacher))
    wanted = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert (wanted > 0).all()


def test_the_hard_loss_is_that_of_the_teachers_most_likely_class():
    student, teacher = RNG.standard_normal((2, 6, 5)).astype(np.float32)
    found = distillation.hard(losses.softmax_xent)(student, teacher)
    wanted = -log_softmax(student)[np.arange(6), teacher.argmax(-1)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


SIZE, BATCH = (8, 8), 16


class Network(nn.Module):
    """It compiles sooner than a Mixer."""

    num_classes: int = 5
    width: int = 8
    dropout: float = 0.2

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.gelu(nn.Dense(self.width)(images.reshape(len(images), -1)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)


MODEL, TEACHER = Network(), Network(width=16)
BATCH_OF = {
    "image": RNG.integers(0, 256, (BATCH, *SIZE, 3)).astype(np.uint8),
    "label": RNG.integers(0, 5, BATCH).astype(np.int32),
    "mask": np.ones(BATCH, bool),
}


@functools.cache
def parameters(model, seed):
    """With a head that is not zero."""
    params = jax.jit(lambda: step.init_params(model, SIZE, seed))()
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + 0.3 * draw.standard_normal(x.shape).astype(np.float32), params
    )


def trained(devices, teacher=None, params=None, weight=0.5, micro_batches=1, mixing=OFF, **fields):
    """(parameters after a step of plain SGD, metrics)."""
    mesh = meshes.make_mesh(1, devices, 1, devices=jax.devices()[:devices])
    rules = placement.STRATEGIES["fsdp" if devices > 1 else "replicate"]
    model, chain = MODEL.clone(**fields), optax.sgd(1.0)
    init = lambda p: step.init_state(model, chain, SIZE, seed=0, ema=False, params=p)
    state = step.create_state(mesh, init, parameters(MODEL, 0), rules)
    made = step.make_step(
        model,
        losses.softmax_xent,
        chain,
        lambda step: 1.0,
        seed=0,
        mixing=mixing,
        micro_batches=micro_batches,
        distillation=teacher and Distillation(teacher, distillation.soft(2.0), weight),
        mesh=mesh,
        rules=rules,
    )
    batch = meshes.put(BATCH_OF, meshes.batch_sharding(mesh), BATCH)
    asked = ()
    if teacher:
        asked = (jax.device_put(params, placement.shardings(params, params, mesh, rules)),)
    after, metrics = step.guarded(step.compile_step(made, state, mesh, batch, *asked))(
        state, batch, *asked
    )
    return jax.device_get(after.params), jax.device_get(metrics)


def assert_close(one, other, **within):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **within), one, other)


def test_eight_devices_and_micro_batches_distil_like_one(monkeypatch):
    """With mixup, and both models sharded; without dropout, as micro-batches have own masks."""
    monkeypatch.setattr(
        "mixer.training.mixing.sample_lambda", lambda key, p: 0.7
    )  # compiles sooner
    params = parameters(TEACHER, 1)
    alone, metrics = trained(1, TEACHER, params, mixing=Mixing(0.5), dropout=0.0)
    spread, others = trained(8, TEACHER, params, micro_batches=2, mixing=Mixing(0.5), dropout=0.0)
    assert_close(spread, alone, rtol=1e-4, atol=2e-6)
    for name in metrics:
        np.testing.assert_allclose(others[name], metrics[name], rtol=1e-4, err_msg=name)
    # The teacher has seen the mixed images, and no dropout.
    images = batch_lib.to_model_input(BATCH_OF["image"])
    images = 0.7 * images + 0.3 * np.roll(images, 1, axis=0)
    student = MODEL.apply({"params": parameters(MODEL, 0)}, images)
    answers = TEACHER.apply({"params": params}, images)
    each = distillation.soft(2.0)(student, answers)
    assert metrics["distill_loss"] == pytest.approx(float(each.mean()), rel=1e-4)
    agree = (student.argmax(-1) == answers.argmax(-1)).mean()
    assert metrics["agreement"] == pytest.approx(float(agree))


def test_without_weight_nothing_changes_and_ones_own_answers_teach_nothing():
    plain, alone = trained(1)
    ignored, metrics = trained(1, TEACHER, parameters(TEACHER, 1), weight=0.0)
    assert_close(ignored, plain, rtol=0)
    assert alone.items() <= metrics.items() and metrics["distill_loss"] > 0
    itself, metrics = trained(1, MODEL, parameters(MODEL, 0), weight=1.0, dropout=0.0)
    assert_close(itself, parameters(MODEL, 0), rtol=0, atol=1e-6)
    assert abs(metrics["distill_loss"]) < 1e-6 and metrics["agreement"] == 1
