"""SAM and GSAM beside optax's SAM and a restatement in NumPy; a Mixer on one and eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixer import batch as batch_lib
from mixer.models.mixer import Mixer
from mixer.planning import flops, hlo
from mixer.training import (
    losses,
    meshes,
    nonfinite,
    optimizer,
    placement,
    progress,
    sam,
    schedules,
    step,
)

MATRIX = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 4.0]])
START = {"a": np.array([1.0, -2.0]), "b": np.array([0.5])}


def quadratic(params):
    """w M w / 2, whose gradient is M w, and a count that says where it was taken."""
    w = jnp.concatenate([params["a"], params["b"]])
    return w @ MATRIX @ w / 2, w[0]


def gradient_at(params):
    (loss, count), grads = jax.value_and_grad(quadratic, has_aux=True)(params)
    return grads, loss, count


def asked(rho, alpha=0.0, trained=(True, True)):
    return sam.Sam(lambda step: rho, alpha, dict(zip("ab", trained, strict=True)))


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.device_get(tree))])


def restated(here, gradient, rho, alpha):
    """By the papers, in NumPy: the gradient by which the parameters `here` are updated."""
    g = gradient(here)
    there = gradient(here + rho * g / np.linalg.norm(g))
    unit = there / np.linalg.norm(there)
    return there - alpha * (g - (g @ unit) * unit)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_a_quadratic_against_numpy(alpha):
    found, loss, count, metrics = sam.gradient(asked(0.3, alpha), gradient_at, START, jnp.int32(0))
    w = flat(START)
    np.testing.assert_allclose(flat(found), restated(w, MATRIX.dot, 0.3, alpha), rtol=1e-5)
    assert loss == pytest.approx(w @ MATRIX @ w / 2) and count == w[0]
    g = MATRIX @ w
    top = w + 0.3 * g / np.linalg.norm(g)
    gap = (top @ MATRIX @ top - w @ MATRIX @ w) / 2
    assert metrics["surrogate_gap"] == pytest.approx(gap, rel=1e-5)
    assert metrics["rho"] == np.float32(0.3)


def test_what_gsam_subtracts_is_orthogonal_to_the_perturbed_gradient():
    plain, descent = (
        flat(sam.gradient(asked(0.3, alpha), gradient_at, START, jnp.int32(0))[0])
        for alpha in (0.0, 0.7)
    )
    assert abs((descent - plain) @ plain) < 1e-5 * (plain @ plain) < np.abs(descent - plain).max()


def test_frozen_parameters_are_not_moved_and_count_in_no_norm():
    found, *_, metrics = sam.gradient(
        asked(0.3, 0.4, (True, False)), gradient_at, START, jnp.int32(0)
    )
    inner = lambda a: MATRIX[:2, :2] @ a + MATRIX[:2, 2] * START["b"]
    np.testing.assert_allclose(found["a"], restated(START["a"], inner, 0.3, 0.4), rtol=1e-5)
    assert found["b"] == 0 and metrics["surrogate_gap"] > 0


def test_it_is_optaxs_sam():
    rate, rho = 0.05, 0.2
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    theirs = optax.contrib.sam(optax.sgd(rate), climb, sync_period=2, opaque_mode=True)
    ours, a, b = optax.sgd(rate), START, jax.tree.map(jnp.asarray, START)
    state, here = theirs.init(b), ours.init(a)
    for _ in range(3):
        updates, state = theirs.update(
            gradient_at(b)[0], state, b, grad_fn=lambda params, _: gradient_at(params)[0]
        )
        b = optax.apply_updates(b, updates)
        grads, *_ = sam.gradient(asked(rho), gradient_at, a, jnp.int32(0))
        updates, here = ours.update(grads, here)
        a = optax.apply_updates(a, updates)
    np.testing.assert_allclose(flat(a), flat(b), rtol=1e-5)
    assert np.abs(flat(a) - flat(START)).max() > 0.1


def test_a_gradient_that_is_zero_or_not_finite():
    zero = jax.tree.map(np.zeros_like, START)
    found, *_ = sam.gradient(asked(0.3, 0.4), gradient_at, zero, jnp.int32(0))
    assert not flat(found).any()

    def breaks_above(params):
        grads, loss, count = gradient_at(params)
        broken = loss > 4  # as it is at the top of the climb only
        return jax.tree.map(lambda g: g + jnp.where(broken, jnp.nan, 0), grads), loss, count

    assert np.isfinite(flat(breaks_above(START)[0])).all()
    found, *_ = sam.gradient(asked(0.5), breaks_above, START, jnp.int32(0))
    assert np.isnan(flat(found)).all()
    chain = nonfinite.skip_nonfinite(optax.sgd(0.1))
    updates, _ = chain.update(found, chain.init(START))
    assert not flat(updates).any()
    counted = progress.Progress(8, 1, max_skipped=1)
    names = ("loss", "grad_norm", "surrogate_gap", "update_norm", "learning_rate")
    values = dict.fromkeys(names, jnp.float32(1)) | {"grad_norm": jnp.float32(np.nan)}
    counted.add(1, values | {"surrogate_gap": jnp.float32(np.nan)})
    assert counted.summary()["skipped_updates"] == 1


def test_rho_follows_the_learning_rate():
    rate = schedules.make_schedule("linear", base=3e-3, end=3e-5, warmup=10, total=100)
    rho = sam.make_rho(rate, 0.6, 0.1, base=3e-3, end=3e-5)
    at = lambda step: float(rho(jnp.int32(step)))
    assert at(0) == at(100) == np.float32(0.1) and at(10) == pytest.approx(0.6)
    lr = float(rate(jnp.int32(40)))
    assert at(40) == pytest.approx(0.1 + 0.5 * (lr - 3e-5) / (3e-3 - 3e-5), rel=1e-5)


SIZE, BATCH, RHO, ALPHA = (8, 8), 16, 0.3, 0.4
MODEL = Mixer(
    num_classes=5,
    patch_size=4,
    num_blocks=1,
    hidden_dim=8,
    tokens_mlp_dim=8,
    channels_mlp_dim=16,
    dropout=0.2,
)
RNG = np.random.default_rng(0)
BATCH_OF = {
    "image": RNG.integers(0, 256, (BATCH, *SIZE, 3)).astype(np.uint8),
    "label": RNG.integers(0, 5, BATCH).astype(np.int32),
    "mask": np.ones(BATCH, bool),
}


@functools.cache
def start():
    """Parameters with a head that is not zero."""
    params = jax.jit(lambda: step.init_params(MODEL, SIZE, 0))()
    return jax.tree.map(lambda x: x + 0.1 * RNG.standard_normal(x.shape).astype(np.float32), params)


def trained(devices, strategy):
    """(compiled step, state after it, metrics): plain SGD, two micro-batches, a frozen stem."""
    mesh = meshes.make_mesh(1, devices, 1, devices=jax.devices()[:devices])
    rules, chain = placement.STRATEGIES[strategy], optax.sgd(1.0)
    kept = optimizer.by_name(start(), lambda name: not name.startswith("stem"))
    init = lambda p: step.init_state(MODEL, chain, SIZE, seed=0, ema=False, params=p)
    state = step.create_state(mesh, init, start(), rules)
    train_step = step.make_step(
        MODEL,
        losses.softmax_xent,
        chain,
        lambda step: 1.0,
        seed=0,
        micro_batches=2,
        sam=sam.Sam(lambda step: RHO, ALPHA, kept),
        mesh=mesh,
        rules=rules,
    )
    batch = meshes.put(BATCH_OF, meshes.batch_sharding(mesh), BATCH)
    compiled = step.compile_step(train_step, state, mesh, batch)
    after, metrics = step.guarded(compiled)(state, batch)
    return compiled, jax.device_get(after.params), jax.device_get(metrics)


@pytest.mark.long
def test_a_mixer_on_eight_devices_on_one_and_restated():
    """Also: both gradients have the same dropout masks, and the whole batch decides the climb."""
    alone, one, metrics = trained(1, "replicate")
    _, eight, others = trained(8, "fsdp")
    np.testing.assert_allclose(flat(eight), flat(one), rtol=1e-4, atol=2e-6)
    for name in metrics:
        np.testing.assert_allclose(others[name], metrics[name], rtol=1e-4, err_msg=name)

    fixed, rest = start()["stem"], {k: v for k, v in start().items() if k != "stem"}
    names, shapes = jax.tree.structure(rest), [x.shape for x in jax.tree.leaves(rest)]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)

    @jax.jit
    def gradient(vector, part, image, label):
        def loss(vector):
            arrays = [x.reshape(s) for x, s in zip(jnp.split(vector, ends), shapes, strict=True)]
            params = jax.tree.unflatten(names, arrays) | {"stem": fixed}
            logits = MODEL.apply(
                {"params": params},
                batch_lib.to_model_input(image),
                train=True,
                rngs={"dropout": jax.random.fold_in(key, part)},
            )
            return -jax.nn.log_softmax(logits)[jnp.arange(BATCH // 2), label].mean()

        return jax.grad(loss)(vector)

    def of_batch(vector):
        parts = [[BATCH_OF[key][i::2] for key in ("image", "label")] for i in (0, 1)]
        each = [gradient(vector.astype(np.float32), i, *part) for i, part in enumerate(parts)]
        return np.mean(each, axis=0, dtype=np.float64)

    wanted = flat(rest) - restated(flat(rest), of_batch, RHO, ALPHA)
    np.testing.assert_allclose(
        flat({k: v for k, v in one.items() if k != "stem"}), wanted, rtol=1e-3, atol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, one["stem"], fixed)
    # What the frozen stem's gradient would cost is left out by the compiler.
    stem = 4 * 4 * 4 * 3 * 8
    wanted = 2 * BATCH * (flops.training_macs(MODEL, SIZE) - stem)
    assert hlo.read(alone.as_text()).macs == pytest.approx(wanted, rel=0.02)
