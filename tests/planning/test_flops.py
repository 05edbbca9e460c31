"""FLOP counts against counts by hand, published numbers and XLA."""

import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

import mixer
from mixer.planning import flops, peaks

# GMACs of one 224 x 224 image with 1000 classes, as timm and the Flax listing both have them.
GMACS = {
    "Mixer-S/32": 1.0024,
    "Mixer-S/16": 3.777,
    "Mixer-B/32": 3.2377,
    "Mixer-B/16": 12.6018,
    "Mixer-L/32": 11.2533,
    "Mixer-L/16": 44.5477,
    "Mixer-H/14": 120.9899,
}


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


X, SQUARE = floats(5, 7), floats(7, 7)
PRODUCT = 5 * 7 * 7


@pytest.mark.parametrize("name", GMACS)
def test_macs_of_the_mixers(name):
    model = mixer.create_model(name, num_classes=1000)
    assert flops.forward_macs(model, (224, 224)) == pytest.approx(1e9 * GMACS[name], rel=1e-4)


@jax.custom_jvp
def with_own_tangent(x, w):
    return x @ w


with_own_tangent.defjvp(lambda primals, tangents: (primals[0] @ primals[1], tangents[0]))


@jax.custom_vjp
def with_own_gradient(x, w):
    return x @ w


with_own_gradient.defvjp(lambda x, w: (x @ w, None), lambda _, gradient: (gradient, gradient))


def small_mixer(**fields):
    sizes = {"patch_size": 4, "num_blocks": 2, "hidden_dim": 16, "tokens_mlp_dim": 8}
    return mixer.create_model("Mixer-S/16", 10, channels_mlp_dim=32, **(sizes | fields))


def test_training_is_three_forward_passes_minus_the_gradient_of_the_image():
    model, size = small_mixer(dropout=0.1, stochastic_depth=0.1), (16, 8)
    stem = 8 * 16 * (4 * 4 * 3)  # tokens x width x patch
    training = flops.training_macs(model, size)
    assert training == 3 * flops.forward_macs(model, size) - stem

    images = floats(1, *size, 3)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    gradient = jax.grad(lambda params, x: model.apply({"params": params}, x).sum())
    assert training == flops.macs(gradient, params, images)


def test_rematerialised_products_count_once():
    def remat(x):
        return jax.checkpoint(lambda x: jnp.sin(x @ x) @ x)(x).sum()

    assert flops.macs(remat, SQUARE) == 2 * 7**3
    assert flops.macs(jax.grad(remat), SQUARE) == 7 * 7**3  # 2 forwards, 4 backwards, 1 again

    plain = flops.training_macs(small_mixer(stochastic_depth=0.1), (16, 8))
    for scan in (False, True):
        for remat in ("dots", "full"):
            model = small_mixer(stochastic_depth=0.1, scan=scan, remat=remat)
            assert flops.training_macs(model, (16, 8)) == plain


@pytest.mark.parametrize(
    ("function", "times"),
    [
        (lambda x, w: x @ w, 1),
        (lambda x, w: jax.jit(jnp.matmul)(x, w) @ w, 2),
        (lambda x, w: jax.checkpoint(jnp.matmul)(x, w), 1),
        (lambda x, w: with_own_tangent(x, w), 1),
        (lambda x, w: with_own_gradient(x, w), 1),
        (lambda x, w: jax.lax.scan(lambda y, _: (y @ w, None), x, length=6)[0], 6),
        (lambda x, w: jax.lax.scan(lambda y, v: (y @ v, y), x, jnp.stack([w, w, w]))[1], 3),
        (lambda x, w: jax.lax.fori_loop(0, 6, lambda _, y: y @ w, x), 6),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w), 2),
        (lambda x, w: jnp.einsum("ij,jk->k", x, w), 1 / 5),
        (lambda x, w: x * x + jnp.exp(x).sum(), 0),
    ],
)
def test_products(function, times):
    assert flops.macs(function, X, SQUARE) == times * PRODUCT


def test_a_scan_step_is_learned_if_an_earlier_one_was():
    class Model:
        def init(self, key, images):
            return {"params": jnp.ones((7, 7))}

        def apply(self, variables, images, train=False, rngs=None):
            w = jax.lax.stop_gradient(variables["params"])
            first = jax.nn.one_hot(jnp.argmax(images.sum((0, 3)), axis=0), 7) @ w

            def step(carry, _):
                x, shift = carry
                return (x @ w + shift, variables["params"]), x

            return jax.lax.scan(step, (first, jnp.zeros((7, 7))), jnp.ones(3))

    # One product without a gradient; of each of the scan's, the left factor has one.
    assert flops.training_macs(Model(), (4, 7)) == 7**3 + 3 * 2 * 7**3


@pytest.mark.parametrize(
    ("input_shape", "kernel_shape", "options", "expected"),
    [
        # XLA counts 0.82 of the first: not the taps on the padding.
        ((2, 7, 7, 4), (3, 3, 4, 6), {}, 2 * 49 * 6 * 9 * 4),
        ((2, 8, 8, 4), (3, 3, 4, 6), {"window_strides": (2, 2)}, 2 * 16 * 6 * 9 * 4),
        ((2, 7, 7, 4), (3, 3, 2, 6), {"feature_group_count": 2}, 2 * 49 * 6 * 9 * 2),
        ((2, 7, 7, 4), (3, 3, 4, 6), {"rhs_dilation": (2, 2)}, 2 * 49 * 6 * 9 * 4),
        ((6, 7, 7, 4), (3, 3, 4, 6), {"batch_group_count": 3}, 2 * 49 * 6 * 9 * 4),
        # Twice as large, one of two taps on an input.
        (
            (2, 4, 4, 4),
            (2, 2, 4, 6),
            {"lhs_dilation": (2, 2), "padding": [(1, 1)] * 2},
            2 * 64 * 24,
        ),
    ],
)
def test_convolutions(input_shape, kernel_shape, options, expected):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    convolve = lambda x, w: jax.lax.conv_general_dilated(
        x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )
    assert flops.macs(convolve, floats(*input_shape), floats(*kernel_shape)) == expected


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (4, 4)])
def test_the_gradient_of_a_convolution_costs_as_much_as_the_convolution(groups, stride, kernel):
    """They are transposed and dilated; products with the zeros between inputs do not count."""
    convolve = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", (1, 1), (1, 1), ("NHWC", "HWIO", "NHWC"), groups
    )
    x, w = floats(2, 8, 12, 4), floats(kernel, kernel, 4 // groups, 6)
    once = flops.macs(convolve, x, w)
    for argument in (0, 1):
        gradient = jax.grad(lambda *args: convolve(*args).sum(), argument)
        assert flops.macs(gradient, x, w) == 2 * once


def test_all_devices_of_a_shard_map_count():
    mesh = jax.make_mesh((4, 2), ("data", "other"), (jax.sharding.AxisType.Auto,) * 2)
    rows = PartitionSpec("data")
    product = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows, axis_names={"data"}
    )
    assert flops.macs(product, floats(8, 7), SQUARE) == 8 * 7 * 7


def test_a_loop_of_unknown_length_is_refused():
    endless = lambda x, w: jax.lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y @ w, x)
    with pytest.raises(flops.Uncountable, match="inside 'while' cannot be counted"):
        flops.macs(endless, X, SQUARE)
    harmless = lambda x, w: jax.lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y - 1, x @ w)
    assert flops.macs(harmless, X, SQUARE) == PRODUCT


def test_macs_against_xlas_count():
    def network(x, *weights):
        for w in weights:
            x = x @ w
        return x

    def loss(x, *weights):
        return (network(x, *weights) ** 2).sum()

    args = [jnp.ones(shape) for shape in ((32, 64), (64, 48), (48, 96))]
    for function in (network, jax.value_and_grad(loss, (1, 2))):
        analysis = jax.jit(function).lower(*args).compile().cost_analysis()
        assert 2 * flops.macs(function, *args) == pytest.approx(analysis["flops"], rel=0.02)


def test_peaks_are_those_of_a_device():
    def device(kind, **more):
        return types.SimpleNamespace(device_kind=kind, **more)

    core, chip = (peaks.peak(device(f"TPU v{n}", num_cores=n - 2)) for n in (3, 4))
    assert (core.flops, core.memory, core.bandwidth) == (61.5e12, int(15.48 * 2**30), 450e9)
    assert (chip.flops, chip.memory, chip.bandwidth) == (275e12, 2 * int(15.375 * 2**30), 1200e9)
    assert peaks.peak(device("TPU v5", num_cores=2)).flops == 459e12
    assert peaks.peak(device("NVIDIA H200")).flops == 989e12
    assert peaks.peak(jax.devices()[0]) is None
