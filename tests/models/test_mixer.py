import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixer
from mixer.models import layers
from mixer.models.mixer import Mixer
from mixer.models.noise import Noise, depth_rates

TINY = dict(
    num_classes=5, patch_size=4, num_blocks=3, hidden_dim=12, tokens_mlp_dim=7, channels_mlp_dim=20
)


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def random_params(model, x, seed=0):
    """Parameters with nothing at zero, the head included."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: (0.3 * rng.standard_normal(s.shape)).astype(np.float32), shapes)


def test_tree_is_the_papers_listing():
    model = Mixer(**TINY)
    params = model.init(jax.random.key(0), images(1, 8, 8, 3))["params"]
    names = {
        "/".join(k.key for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    expected = {"stem/kernel", "stem/bias", "head/kernel", "head/bias"}
    expected |= {f"pre_head_layer_norm/{leaf}" for leaf in ("scale", "bias")}
    for i in range(3):
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            expected |= {f"MixerBlock_{i}/{norm}/{leaf}" for leaf in ("scale", "bias")}
        for mlp in ("token_mixing", "channel_mixing"):
            for dense in ("Dense_0", "Dense_1"):
                expected |= {f"MixerBlock_{i}/{mlp}/{dense}/{leaf}" for leaf in ("kernel", "bias")}
    assert names == expected
    assert not params["head"]["kernel"].any()


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, p):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-6) * p["scale"] + p["bias"]


def numpy_mixer(params, x, patch):
    """The paper's two equations, float64, W X on columns and rows as written."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    n, h, w, _ = x.shape
    rows, columns = h // patch, w // patch
    patches = x.astype(np.float64).reshape(n, rows, patch, columns, patch, 3)
    patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, -1)
    c = p["stem"]["bias"].size
    out = []
    for table in patches @ p["stem"]["kernel"].reshape(-1, c) + p["stem"]["bias"]:
        for i in range(sum(k.startswith("MixerBlock") for k in p)):
            block = p[f"MixerBlock_{i}"]
            tokens, channels = block["token_mixing"], block["channel_mixing"]
            normed = layer_norm(table, block["LayerNorm_0"])
            w1, w2 = tokens["Dense_0"]["kernel"].T, tokens["Dense_1"]["kernel"].T
            b1, b2 = tokens["Dense_0"]["bias"][:, None], tokens["Dense_1"]["bias"][:, None]
            table = table + w2 @ gelu(w1 @ normed + b1) + b2
            normed = layer_norm(table, block["LayerNorm_1"])
            w3, w4 = channels["Dense_0"]["kernel"].T, channels["Dense_1"]["kernel"].T
            b3, b4 = channels["Dense_0"]["bias"][:, None], channels["Dense_1"]["bias"][:, None]
            table = table + (w4 @ gelu(w3 @ normed.T + b3) + b4).T
        pooled = layer_norm(table, p["pre_head_layer_norm"]).mean(0)
        out.append(pooled @ p["head"]["kernel"] + p["head"]["bias"])
    return np.stack(out)


@pytest.mark.parametrize("size", [(16, 16), (8, 20)])
def test_logits_against_numpy(size):
    model = Mixer(**TINY)
    x = images(2, *size, 3)
    params = random_params(model, x)
    with jax.default_matmul_precision("highest"):
        logits = model.apply({"params": params}, x)
    want = numpy_mixer(params, x, 4)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, want, rtol=2e-5, atol=2e-5)


def test_erf_gelu_is_the_exact_one():
    x = np.linspace(-4, 4, 101).astype(np.float32)
    from scipy.stats import norm

    np.testing.assert_allclose(layers.gelu(x, "erf"), x * norm.cdf(x), atol=2e-6)
    np.testing.assert_allclose(layers.gelu(x, "tanh"), gelu(x), atol=2e-6)
    assert np.abs(layers.gelu(x, "erf") - layers.gelu(x, "tanh")).max() > 1e-4
    with pytest.raises(ValueError, match="'tanh' or 'erf'"):
        layers.gelu(x, "exact")


@jax.numpy_dtype_promotion("standard")  # Flax's LayerNorm promotes by itself
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_around():
    model = Mixer(**TINY, dtype="bfloat16")
    x = images(2, 8, 8, 3)
    params = random_params(model, x)
    logits, state = model.apply({"params": params}, x, capture_intermediates=True)
    seen = state["intermediates"]
    block = seen["MixerBlock_1"]
    assert block["token_mixing"]["Dense_0"]["__call__"][0].dtype == jnp.bfloat16
    assert block["LayerNorm_0"]["__call__"][0].dtype == jnp.float32
    assert seen["pre_head_layer_norm"]["__call__"][0].dtype == jnp.float32
    assert logits.dtype == jnp.float32
    init = model.init(jax.random.key(0), x)["params"]
    assert {a.dtype for a in jax.tree.leaves(init)} == {jnp.dtype("float32")}
    full = Mixer(**TINY).apply({"params": params}, x)
    error = np.abs(logits - full).max() / np.abs(full).max()
    assert 1e-5 < error < 0.1


def test_named_intermediates_without_editing_the_model():
    model = Mixer(**TINY)
    x = images(2, 8, 8, 3)
    params = random_params(model, x)
    _, state = model.apply({"params": params}, x, capture_intermediates=True)
    seen = state["intermediates"]
    assert seen["stem"]["__call__"][0].shape == (2, 2, 2, 12)
    assert seen["MixerBlock_2"]["__call__"][0].shape == (2, 4, 12)
    features = model.clone(num_classes=0).apply({"params": params}, x)
    np.testing.assert_array_equal(seen["pre_logits"][0], features)


def test_dropout_and_stochastic_depth_keep_the_expectation():
    x = np.ones((4000, 3, 2), np.float32)
    noise = Noise(jax.random.key(0), rates=0.25, dropout_rate=0.25)
    for function in (Noise.dropout, Noise.stochastic_depth):
        dropped = np.asarray(function(noise, x, 0))
        assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
        np.testing.assert_allclose(dropped.mean(), 1, atol=0.03)
        np.testing.assert_array_equal(function(noise.replace(key=None), x, 0), x)
    whole = np.asarray(noise.stochastic_depth(x, 0))
    assert (whole == whole[:, :1, :1]).all(), "a branch is dropped for an example as a whole"


@pytest.mark.parametrize(
    "fields, ramp, divided",
    [
        ({}, np.arange(6) / 5, True),  # the paper's words: the first MLP never, the last at 0.5
        ({"depth_ramp": "block", "depth_rescale": False}, [0, 0, 0.5, 0.5, 1, 1], False),
    ],
)
def test_stochastic_depth_rises_linearly_from_the_first_mlp_to_the_last(fields, ramp, divided):
    """Or from block to block, as in big_vision's code."""
    model = Mixer(**TINY, stochastic_depth=0.5, **fields)
    rates = 0.5 * np.array(ramp)
    x = np.broadcast_to(images(1, 8, 8, 3), (3000, 8, 8, 3))
    params = random_params(model, x)

    # The kept share of MLP j: rows whose residual stream it has changed.
    @jax.jit
    def run(key):
        _, state = model.apply(
            {"params": params}, x, train=True, rngs={"dropout": key}, capture_intermediates=True
        )
        return state["intermediates"]

    seen = run(jax.random.key(1))
    share = []
    for i in range(3):
        block = seen[f"MixerBlock_{i}"]
        before = (
            seen["stem"]["__call__"][0].reshape(3000, 4, 12)
            if i == 0
            else seen[f"MixerBlock_{i - 1}"]["__call__"][0]
        )
        channels = block["channel_mixing"]["__call__"][0]
        tokens = block["token_mixing"]["__call__"][0].swapaxes(1, 2)
        gained = block["__call__"][0] - before
        # Least squares per example: gained = a tokens + b channels.
        a, b = _two_coefficients(np.asarray(gained), np.asarray(tokens), np.asarray(channels))
        share += [(np.abs(a) > 0.5).mean(), (np.abs(b) > 0.5).mean()]
        for coefficient, j in ((a, 2 * i), (b, 2 * i + 1)):
            kept = coefficient[np.abs(coefficient) > 0.5]
            np.testing.assert_allclose(kept, 1 / (1 - rates[j]) if divided else 1, rtol=1e-3)
    np.testing.assert_allclose(share, 1 - rates, atol=0.03)
    assert all(one == 1 for one, rate in zip(share, rates, strict=True) if rate == 0)


def test_ramps_of_stochastic_depth():
    np.testing.assert_allclose(depth_rates(0.1, 2), [(0, 0.1 / 3), (0.2 / 3, 0.1)])
    np.testing.assert_allclose(depth_rates(0.1, 3, "block"), [(0, 0), (0.05,) * 2, (0.1,) * 2])
    assert depth_rates(0.1, 1, "block") == [(0, 0)]
    with pytest.raises(ValueError, match="depth_ramp='branch': expected 'mlp' or 'block'"):
        depth_rates(0.1, 3, "branch")


def _two_coefficients(y, u, v):
    y, u, v = (t.reshape(len(t), -1).astype(np.float64) for t in (y, u, v))
    uu, vv, uv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    yu, yv = (y * u).sum(1), (y * v).sum(1)
    determinant = uu * vv - uv**2
    return (yu * vv - yv * uv) / determinant, (yv * uu - yu * uv) / determinant


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((10, 8), "10 x 8 is not divisible by patch_size 4"),
        ((16, 16), r"made for 4 tokens \(a 2 x 2 grid: 8 x 8 pixels.*4 x 4 grid of 16 tokens"),
    ],
)
def test_wrong_image_size_names_the_grids(size, message):
    model = Mixer(**TINY)
    params = random_params(model, images(1, 8, 8, 3))
    with pytest.raises(ValueError, match=message):
        model.apply({"params": params}, images(1, *size, 3))


@pytest.mark.parametrize("scan", [False, True])
def test_parameters_for_another_resolution_name_the_model_for_them(scan):
    """Block-diagonal token mixing is wider; without this line Flax compares shapes."""
    model, x = Mixer(**TINY, scan=scan), images(1, 16, 16, 3)
    large = mixer.at_resolution(model, 16, 8)
    message = (
        "token-mixing MLPs of 28 units, the model has tokens_mlp_dim=7: .* mixer.at_resolution"
    )
    with pytest.raises(ValueError, match=message):
        model.apply({"params": random_params(large, x)}, x)
    with pytest.raises(ValueError, match="MLPs of 7 units, the model has tokens_mlp_dim=28"):
        large.apply({"params": random_params(model, images(1, 8, 8, 3))}, images(1, 8, 8, 3))


def test_wrong_patch_size_is_named():
    params = random_params(Mixer(**TINY), images(1, 8, 8, 3))
    model = Mixer(**(TINY | {"patch_size": 2}))
    with pytest.raises(ValueError, match="made for patch_size 4, the model has 2"):
        model.apply({"params": params}, images(1, 8, 8, 3))


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(mixer.BadInput, match="Did you mean 'Mixer-B/16'"):
        mixer.create_model("mixer-b16", num_classes=10)
    with pytest.raises(mixer.BadInput, match="Did you mean 'dropout'"):
        mixer.create_model("Mixer-B/16", num_classes=10, drop_out=0.1)
    with pytest.raises(mixer.BadInput, match=r"'pretrained'\. Known: .* mixer\.load\(NAME\) loads"):
        mixer.create_model("Mixer-B/16", pretrained=True)
    with pytest.raises(TypeError, match="expected a model's name, such as 'Mixer-B/16'"):
        mixer.create_model(16)


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("Mixer-S/16", "num_classes", "10", "a whole number, 0 or more"),
        ("Mixer-S/16", "num_classes", 10.0, "a whole number, 0 or more"),
        ("Mixer-S/16", "num_classes", -1, "a whole number, 0 or more"),
        ("Mixer-S/16", "patch_size", (16, 16), "a whole number, 1 or more"),
        ("Mixer-S/16", "num_blocks", 0, "a whole number, 1 or more"),
        ("BiT-R50x1", "num_blocks", 4, "for each stage a whole number, 1 or more"),
        ("ViT-S/16", "representation_size", -1, "a whole number, 0 or more"),
        ("Mixer-S/16", "dropout", 1.0, "0 <= dropout < 1"),
        ("Mixer-S/16", "stochastic_depth", float("nan"), "0 <= stochastic_depth < 1"),
        ("Mixer-S/16", "head_bias_init", "-10", "a number"),
        ("Mixer-S/16", "depth_rescale", "no", "True or False"),
    ],
)
def test_a_value_that_a_field_cannot_have_is_refused(name, field, value, expected):
    with pytest.raises(mixer.BadInput) as error:
        mixer.create_model(name, **({"num_classes": 10} | {field: value}))
    assert str(error.value) == f"{field}={value!r}: expected {expected}"


def test_a_dtype_may_be_given_as_jax_has_it_and_must_be_one_that_is_computed_in():
    model = mixer.create_model("BiT-R50x1", np.int64(3), num_blocks=[1] * 4, dtype=jnp.bfloat16)
    assert (model.num_classes, model.num_blocks, model.dtype) == (3, (1, 1, 1, 1), "bfloat16")
    refused = {
        "bf16": "Did you mean 'bfloat16'",
        jnp.int32: "dtype=int32: expected float32 or bfloat16",
        "float64": "float32 unless jax_enable_x64 is set",
    }
    for dtype, message in refused.items():
        with pytest.raises(mixer.BadInput, match=message):
            mixer.create_model("Mixer-S/16", 3, dtype=dtype)
    with jax.enable_x64(True):
        assert mixer.create_model("Mixer-S/16", 3, dtype="float64").dtype == "float64"


def test_a_model_without_a_number_of_classes_is_refused_with_the_usual_ones():
    with pytest.raises(mixer.BadInput, match=r"needs num_classes.*1000.*21843.*mixer\.load"):
        mixer.create_model("Mixer-B/16")
    with pytest.raises(mixer.BadInput, match=r"may be trained weights, which mixer\.load"):
        mixer.create_model("Mixer-B/16:sam")
