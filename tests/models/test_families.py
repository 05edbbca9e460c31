"""What every family keeps, on small members: those that are compared with timm's, and a HaloNet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from jax.extend.core import jaxprs_in_params

import mixer
from tools.timm_parity import CASES, Case

# Parameters without any effect, by the end of their names.
INVARIANT = {
    # The same is added to all channels of a token, and every LayerNorm takes it out again.
    "Mixer": ("token_mixing/Dense_1/bias",),
    # The same is added to all of a query's logits, and the softmax takes it out again.
    "ViT": ("key/bias",),
    "BiT": (),
    "ResMLP": (),
    "gMLP": (),
    "ConvNeXt": (),
    "NFNet": (),
    "HaloNet": (),
}
# The deviation of a new head's kernel; without a row it is zero.
HEAD = {"ResMLP": 0.02, "ConvNeXt": 0.02, "NFNet": 0.01}
_HALONET = {"num_blocks": (3,), "widths": (16,), "num_heads": (2,), "block_size": 2, "halo_size": 1}
_HALONET |= {"out_ratio": 2.0, "final_dim": 16}


def shorter(name, **fields):
    """With the fewest blocks of which two can be scanned."""
    return dataclasses.replace(CASES[name], fields=CASES[name].fields | fields)


MEMBERS = CASES | {
    "ConvNeXt": shorter("ConvNeXt", num_blocks=(1, 2), widths=(4, 8)),
    "NFNet": shorter("NFNet", num_blocks=(3,), widths=(32,)),
    "HaloNet": Case("HaloNet-H0", _HALONET, (29, 42), None),
}
LABELS = np.array([1, 3])
families = pytest.mark.parametrize("name", INVARIANT)


def gradient_of(model):
    def loss(params, images):
        logits = model.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).sum()

    return jax.jit(jax.value_and_grad(loss))


def jaxpr_of(case, *, train=False, **fields):
    model, key = case.model.clone(**fields), jax.random.key(0)
    apply = lambda p, x: model.apply({"params": p}, x, train=train, rngs={"dropout": key})
    return jax.make_jaxpr(apply)(case.params(), case.images())


def products(jaxpr):
    """The operands' dtypes of all matrix products and convolutions."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield {str(variable.aval.dtype) for variable in equation.invars}
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


def test_every_family_is_here():
    levels = mixer.list_models(verbose=True).items()
    published = {name.partition("-")[0] for name, level in levels if level != "nothing"}
    assert published == set(INVARIANT)  # appendix A's variants of the Mixer: test_ablations


@pytest.mark.long
@families
def test_gradients_with_scan_and_remat_too(name):
    """All parameters have one save the known ones, the same however it is computed; it descends."""
    case = MEMBERS[name]
    params, images = case.params(), case.images()
    with jax.default_matmul_precision("highest"):
        plain = gradient_of(case.model)
        value, wanted = plain(params, images)
        found = gradient_of(case.model.clone(scan=True, remat="full"))(params, images)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            found,
            (value, wanted),
        )
        for parameter, gradient in traverse_util.flatten_dict(wanted, sep="/").items():
            invariant = parameter.endswith(INVARIANT[name])
            assert (np.abs(gradient).max() > 1e-5) != invariant, parameter
        for _ in range(5):
            _, gradient = plain(params, images)
            length = optax.global_norm(gradient)
            params = jax.tree.map(lambda p, g, n=length: p - 0.2 * g / n, params, gradient)
        assert plain(params, images)[0] < 0.7 * value


@families
def test_the_head_begins_as_the_authors_does(name):
    case = MEMBERS[name]
    model = case.model.clone(head_bias_init=-3.0)
    head = jax.jit(lambda key: model.init(key, case.images())["params"]["head"])(jax.random.key(0))
    assert head["kernel"].std() == pytest.approx(HEAD.get(name, 0), rel=0.5)
    np.testing.assert_array_equal(head["bias"], -3)


@families
def test_only_chance_tells_training_from_evaluation(name):
    """By what is computed, written out."""
    case = MEMBERS[name]
    evaluated = str(jaxpr_of(case))
    assert str(jaxpr_of(case, train=True)) == evaluated
    for field in ("dropout", "stochastic_depth"):
        if hasattr(case.model, field):
            assert str(jaxpr_of(case, **{field: 0.5})) == evaluated
            drawn = str(jaxpr_of(case, train=True, **{field: 0.5}))
            assert "random_bits" in drawn and "random_bits" not in evaluated


@families
@jax.numpy_dtype_promotion("standard")  # Flax's norms promote by themselves
def test_bfloat16_for_all_products_but_the_heads(name):
    jaxpr = jaxpr_of(MEMBERS[name], dtype="bfloat16")
    assert jaxpr.out_avals[0].dtype == jnp.float32
    *within, last = products(jaxpr.jaxpr)
    assert last == {"float32"} and within
    assert all(dtypes == {"bfloat16"} for dtypes in within)


@families
@jax.numpy_dtype_promotion("standard")
def test_blocks_hand_on_bfloat16(name):
    case = MEMBERS[name]
    model = case.model.clone(dtype="bfloat16")
    _, state = jax.eval_shape(
        lambda p, x: model.apply({"params": p}, x, capture_intermediates=True),
        case.params(),
        case.images(),
    )
    # The children that have children of their own, which norms, stem and head do not.
    blocks = [each for each in state["intermediates"].values() if len(each) > 1]
    assert blocks
    assert all(each["__call__"][0].dtype == jnp.bfloat16 for each in blocks)


@families
def test_features_are_what_the_head_sees(name):
    case = MEMBERS[name]
    model, head = case.model.clone(num_classes=0), case.params()["head"]
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(
            lambda p, x: (
                case.model.apply({"params": p}, x),
                *model.apply({"params": p}, x, mutable="intermediates"),
            )
        )
        logits, features, state = apply(case.params(), case.images())
    np.testing.assert_array_equal(state["intermediates"]["pre_logits"][0], features)
    assert features.shape == (2, len(head["kernel"])) and features.dtype == jnp.float32
    np.testing.assert_allclose(
        logits, features @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-4
    )


@families
def test_one_image_is_no_batch(name):
    case = MEMBERS[name]
    shape = (*case.image_size, 3)
    with pytest.raises(ValueError, match=rf"shape \({shape[0]}, .*expected \[N, H, W, 3\]"):
        case.model.init(jax.random.key(0), jnp.zeros(shape))


@families
def test_what_is_no_image_in_floating_point_says_how_to_make_it_one(name):
    model = MEMBERS[name].model
    shape = (2, *MEMBERS[name].image_size, 3)
    for dtype in (np.uint8, np.int32, bool):
        with pytest.raises(ValueError, match=r"of dtype \w+: expected .* with images / 127.5 - 1"):
            model.init(jax.random.key(0), np.zeros(shape, dtype))
    turned = np.zeros((2, 3, *MEMBERS[name].image_size), np.float32)
    with pytest.raises(
        ValueError, match=r"put the channels last with images.transpose\(0, 2, 3, 1\)"
    ):
        model.init(jax.random.key(0), turned)
    with pytest.raises(ValueError, match=r", 1\): expected \[N, H, W, 3\]\n"):
        model.init(jax.random.key(0), np.zeros((*shape[:3], 1), np.float32))


def test_stages_that_cannot_be_are_refused():
    net = CASES["ConvNeXt"].model
    with pytest.raises(ValueError, match="image size 31 x 40: expected 32 pixels or more"):
        net.init(jax.random.key(0), jnp.zeros((1, 31, 40, 3)))
    with pytest.raises(ValueError, match=r"widths=\(4, 8, 12\): expected 4 numbers, .*num_blocks"):
        net.clone(widths=(4, 8, 12)).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(ValueError, match="normalization='unit': expected 'imagenet' or 'none'"):
        net.clone(normalization="unit").init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
