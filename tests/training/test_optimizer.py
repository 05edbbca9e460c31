import inspect

import jax
import numpy as np
import optax
import pytest

from mixer import errors
from mixer.training import losses, nonfinite, optimizer


def tree(seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    return {
        "stem": {"kernel": draw(2, 2, 3, 4), "bias": draw(4)},
        "block": {"Dense_0": {"kernel": draw(4, 5), "bias": draw(5)}, "norm": {"scale": draw(4)}},
    }


RATE = lambda t: 0.1 / (1 + t)


def run(transformation, steps=4):
    params, state = tree(0), transformation.init(tree(0))
    for t in range(steps):
        updates, state = transformation.update(tree(t + 1), state, params)
        params = optax.apply_updates(params, updates)
    return params


def numpy_adamw(steps=4, decay=0.1, clip=1.0):
    """Bias-corrected Adam(0.9, 0.999, 1e-8); lr times weight decay, on kernels only."""
    params = {k: np.float64(v) for k, v in flat(tree(0)).items()}
    m, v = ({k: np.zeros_like(p) for k, p in params.items()} for _ in range(2))
    for t in range(steps):
        grads = {k: np.float64(g) for k, g in flat(tree(t + 1)).items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        for k, g in grads.items():
            g = g * min(1, clip / norm)
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g**2
            adam = m[k] / (1 - 0.9 ** (t + 1))
            adam /= np.sqrt(v[k] / (1 - 0.999 ** (t + 1))) + 1e-8
            decayed = decay * params[k] if k.endswith("kernel") else 0
            params[k] = params[k] - RATE(t) * (adam + decayed)
    return params


def flat(params):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def test_adamw_form_against_numpy():
    made = optimizer.make_optimizer("adam", tree(0), RATE, weight_decay=0.1, clip_norm=1.0)
    got, want = flat(run(made)), numpy_adamw()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=2e-4, atol=2e-5)


def test_momentum_sgd_against_numpy():
    made = optimizer.make_optimizer("sgd(momentum=0.8)", tree(0), RATE, weight_decay=0, clip_norm=0)
    params = {k: np.float64(v) for k, v in flat(tree(0)).items()}
    for name, value in flat(run(made)).items():
        buffer, want = 0, params[name]
        for t in range(4):
            buffer = 0.8 * buffer + flat(tree(t + 1))[name]
            want = want - RATE(t) * buffer
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-5)


def test_the_momentum_can_be_kept_in_bfloat16():
    made = optimizer.make_optimizer(
        "sgd(accumulator_dtype='bfloat16')", tree(0), RATE, weight_decay=0, clip_norm=1
    )
    state = made.init(tree(0))
    assert {str(x.dtype) for x in jax.tree.leaves(state) if x.ndim} == {"bfloat16"}


def test_multipliers_scale_the_learning_rate_and_the_first_match_decides():
    both = (("stem/kernel", 0.5), ("kernel", 2.0))
    plain = optimizer.make_optimizer("sgd", tree(0), RATE, weight_decay=0.1, clip_norm=0)
    scaled = optimizer.make_optimizer(
        "sgd", tree(0), RATE, weight_decay=0.1, clip_norm=0, multipliers=both
    )
    start = flat(tree(0))
    moved = {k: v - start[k] for k, v in flat(run(plain, 1)).items()}
    for name, value in flat(run(scaled, 1)).items():
        factor = {"stem/kernel": 0.5, "block/Dense_0/kernel": 2.0}.get(name, 1.0)
        np.testing.assert_allclose(value - start[name], factor * moved[name], rtol=1e-4, atol=1e-6)


def test_frozen_parameters_do_not_change_or_count_in_the_global_norm():
    frozen = optimizer.make_optimizer(
        "adam",
        tree(0),
        RATE,
        weight_decay=0.1,
        clip_norm=1,
        multipliers=(("^stem", 0), ("norm", 3)),
    )
    got, start = flat(run(frozen)), flat(tree(0))
    for name in got:
        assert np.array_equal(got[name], start[name]) == name.startswith("stem"), name
    state = frozen.init(tree(0))
    sizes = [x.size for x in jax.tree.leaves(state)]
    assert max(sizes) == 20, "no moments are kept for the frozen stem (48 numbers)"


def test_adaptive_gradient_clipping_is_per_unit():
    """As in NFNet: a unit's gradient norm is at most agc * max(norm of its weights, 0.001)."""
    shapes = {"conv": (3, 3, 2, 4), "dense": (5, 6), "bias": (6,), "skip_gain": ()}
    rng = np.random.default_rng(0)
    draw = lambda size: {
        k: np.asarray(size * rng.standard_normal(s), np.float32) for k, s in shapes.items()
    }
    params, grads = draw(1.0), draw(0.05)
    params["bias"][:] = 0
    params |= {"head": {"kernel": params["dense"]}}
    grads |= {"head": {"kernel": grads["dense"]}}
    made = optimizer.make_optimizer(
        "sgd(momentum=0.0)", params, lambda t: 1.0, weight_decay=0, clip_norm=0, agc=0.05
    )
    updates, _ = made.update(grads, made.init(params), params)
    np.testing.assert_allclose(updates["head"]["kernel"], -grads["head"]["kernel"])
    shares = []
    for name, axes in (("conv", (0, 1, 2)), ("dense", 0), ("bias", None), ("skip_gain", None)):
        norm = lambda x, a=axes: np.sqrt((x**2).sum(a))
        share = norm(grads[name]) / (0.05 * np.maximum(norm(params[name]), 1e-3))
        np.testing.assert_allclose(updates[name], -grads[name] / np.maximum(share, 1), rtol=1e-5)
        shares.extend(np.ravel(share))
    assert min(shares) < 1 < max(shares)
    frozen = optimizer.make_optimizer(
        "sgd", params, RATE, weight_decay=0, clip_norm=1, agc=0.05, multipliers=(("conv", 0),)
    )
    updates, _ = frozen.update(grads, frozen.init(params), params)
    assert not updates["conv"].any() and updates["dense"].any()


def test_bad_optimizers_are_refused():
    def refused(message, name="adam", multipliers=()):
        with pytest.raises(errors.BadInput, match=message):
            optimizer.make_optimizer(
                name, tree(0), RATE, weight_decay=0, clip_norm=0, multipliers=multipliers
            )

    refused("unknown optimizer 'adm'. Did you mean 'adam'", "adm")
    refused(r"Its signature is sgd\(momentum=0.9, nesterov=False", "sgd(beta=1)")
    refused("'head' matches none of the 5 parameters", multipliers=(("head", 0.1),))
    refused("not a regular expression", multipliers=(("(", 0.1),))
    refused("not a pair of a regular", multipliers=("head", 0.1))
    refused("not a pair of a regular", multipliers=(("head", -1),))
    refused("freezes every parameter", multipliers=((".", 0),))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam(mu_dtype='int8')", "expected one of float32, bfloat16, float16"),  # a mean of zeros
        ("adam(mu_dtype='bf16')", "expected one of float32, bfloat16, float16"),
        ("adam(b2=99)", "b2=99: expected a number from 0 to below 1"),
        ("adam(-0.9)", "b1=-0.9: expected a number from 0 to below 1"),
        ("adam(b2='0.95')", "expected a number"),
        ("sgd(momentum=9)", "expected a number from 0 to below 1"),
        ("adam(eps=-1)", "expected a number that is not negative"),
        ("sgd(nesterov='no')", "expected True or False"),
        ("adam(mu_dtype=bfloat16)", "Text needs quotes: 'bfloat16'"),
    ],
)
def test_options_that_would_train_something_else_are_refused(name, expected):
    with pytest.raises(errors.BadInput, match=expected):
        optimizer.make_optimizer(name, tree(0), RATE, weight_decay=0, clip_norm=0)


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_an_optimizer_s_own_defaults_are_accepted(name):
    parameters = inspect.signature(optimizer.OPTIMIZERS[name]).parameters.values()
    spelled = ", ".join(f"{each.name}={each.default!r}" for each in parameters)
    written = f"{name}({spelled})"
    plain, full = (
        optimizer.make_optimizer(each, tree(0), RATE, weight_decay=0, clip_norm=0)
        for each in (name, written)
    )
    jax.tree.map(np.testing.assert_array_equal, run(plain), run(full))


def test_losses_against_numpy():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 4)).astype(np.float32)
    targets = np.asarray(losses.targets(np.int32([0, 1, 2, 3, 0, -1]), 4, 0.1))
    one_hot = np.eye(4)[[0, 1, 2, 3, 0]]
    np.testing.assert_allclose(targets[:5], 0.9 * one_hot + 0.025, atol=1e-6)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    np.testing.assert_allclose(
        losses.softmax_xent(logits, targets), -(targets * log_p).sum(1), rtol=1e-4
    )
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    binary = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(losses.sigmoid_xent(logits, targets), binary, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_update_is_skipped_and_the_schedule_advances(bad):
    make = lambda: nonfinite.skip_nonfinite(
        optimizer.make_optimizer("adam", tree(0), RATE, weight_decay=0.1, clip_norm=1.0)
    )
    update = jax.jit(make().update)

    def run(spoil):
        params, state = tree(0), make().init(tree(0))
        for t in range(4):
            gradient = tree(t + 1)
            if t == spoil:
                gradient["stem"]["kernel"][0, 0, 0, 0] = bad
            before, moments = params, optax.tree.get(state, "mu")
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            if t == spoil:
                for now, then in ((params, before), (optax.tree.get(state, "mu"), moments)):
                    jax.tree.map(np.testing.assert_array_equal, now, then)
        return params, state

    params, state = run(2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    counts = [count for path, count in optax.tree.get_all_with_path(state, "count")]
    assert len(counts) == 2 and all(count == 4 for count in counts)
    for name, array in flat(run(None)[0]).items():
        np.testing.assert_allclose(array, numpy_adamw()[name], rtol=2e-5, atol=1e-6)


def test_parameters_are_listed_by_learning_rate_multiplier():
    params = {name: {"kernel": np.zeros(2)} for name in ("stem", "MixerBlock_1", "MixerBlock_10")}
    found = optimizer.by_multiplier(params, (("MixerBlock_1", 0), ("stem", 0.5)))
    assert found == {0.0: ["MixerBlock_1/kernel", "MixerBlock_10/kernel"], 0.5: ["stem/kernel"]}


def test_a_layer_s_decay_and_a_pattern_s_multiplier_are_multiplied():
    layers = {"stem": 0, "block": 1, "head": 2}
    params = tree(0) | {"head": {"kernel": tree(0)["stem"]["kernel"][0, 0]}}
    by_layer = optimizer.layer_rates(layers, 0.5)
    assert by_layer == {"stem": 0.25, "block": 0.5, "head": 1.0}
    found = flat(optimizer.learning_rate_multipliers(params, (("norm", 0), ("bias", 3)), by_layer))
    assert found == {
        "stem/kernel": 0.25,
        "stem/bias": 0.75,
        "block/Dense_0/kernel": 0.5,
        "block/Dense_0/bias": 1.5,
        "block/norm/scale": 0.0,
        "head/kernel": 1.0,
    }
    made = optimizer.make_optimizer(
        "sgd", params, lambda t: 1.0, weight_decay=0.1, clip_norm=0, by_layer=by_layer
    )
    updates, _ = made.update(params, made.init(params), params)
    np.testing.assert_allclose(updates["stem"]["kernel"], -0.275 * params["stem"]["kernel"], 1e-5)
    np.testing.assert_allclose(updates["head"]["kernel"], -1.1 * params["head"]["kernel"], 1e-5)


def test_without_layer_decay_the_update_is_the_same_program():
    layers = {"stem": 0, "block": 1}
    of = lambda **more: optimizer.make_optimizer(
        "adam", tree(0), RATE, weight_decay=0.1, clip_norm=1, **more
    )
    programs = [
        str(jax.make_jaxpr(made.update)(tree(1), made.init(tree(0)), tree(0)))
        for made in (of(), of(by_layer=optimizer.layer_rates(layers, 1.0)))
    ]
    assert programs[0] == programs[1]
