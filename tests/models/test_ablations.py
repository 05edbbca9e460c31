"""Appendix A's Mixers: each is the plain one where its change amounts to nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixer
from mixer.models.mixer import Mixer
from mixer.models.mixer_ablations import AblatedBlock, AblatedMixer

FIELDS = {
    "num_classes": 5,
    "patch_size": 4,
    "num_blocks": 4,
    "hidden_dim": 12,
    "tokens_mlp_dim": 7,
    "channels_mlp_dim": 9,
}
CHANGES = {
    "untied": {},
    "grouped": {"groups": 3},
    "views": {"groups": 3},
    "pyramid": {"stages": 2},
}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 16, 12, 3)).astype(np.float32)
plain = Mixer(**FIELDS)
variants = pytest.mark.parametrize("kind", CHANGES)


def ablated(kind, **fields):
    return AblatedMixer(**FIELDS, token_mixing=kind, **fields)


def parameters(model, seed=0):
    """Random ones, the head and the biases too, so that all of them count."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]
    rng = np.random.default_rng(seed)
    draw = lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32)
    return jax.tree.map(draw, shapes)


def logits(model, params, images=IMAGES, **kwargs):
    with jax.default_matmul_precision("highest"):
        return model.apply({"params": params}, images, **kwargs)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["shared", "grouped", "pyramid"])
def test_without_its_change_it_is_the_mixer_by_parameters_and_masks(kind):
    """One group, one stage: the same tree, the same logits, the same dropped branches."""
    model, random = ablated(kind), {"dropout": 0.3, "stochastic_depth": 0.5}
    params = parameters(plain)
    assert jax.tree.map(jnp.shape, parameters(model)) == jax.tree.map(jnp.shape, params)
    close(logits(model, params), logits(plain, params))
    training = {"train": True, "rngs": {"dropout": jax.random.key(1)}}
    found = logits(model.clone(**random), params, **training)
    np.testing.assert_array_equal(found, logits(plain.clone(**random), params, **training))


def test_one_view_by_the_identity_is_the_mixer():
    params = parameters(plain)
    identity = {"kernel": np.eye(12, dtype=np.float32), "bias": np.zeros(12, np.float32)}
    with_views = {
        name: part | {"views": identity} if "token_mixing" in part else part
        for name, part in params.items()
    }
    close(logits(ablated("views"), with_views), logits(plain, params))


def test_untied_mlps_with_the_same_weights_are_the_mixer():
    params = parameters(plain)
    tie = lambda leaf: np.repeat(leaf[None], FIELDS["hidden_dim"], 0)
    untied = {
        name: part | {"token_mixing": jax.tree.map(tie, part["token_mixing"])}
        if "token_mixing" in part
        else part
        for name, part in params.items()
    }
    assert jax.tree.map(jnp.shape, parameters(ablated("untied"))) == jax.tree.map(jnp.shape, untied)
    close(logits(ablated("untied"), untied), logits(plain, params))


def test_an_untied_mlp_is_one_channels():
    """Other weights for channel 5 change what is mixed of channel 5, and of no other."""
    params = parameters(ablated("untied"))
    block = params["MixerBlock_0"]
    other = jax.tree.map(
        lambda leaf: leaf + (np.arange(12) == 5).reshape(-1, *[1] * (leaf.ndim - 1)),
        block["token_mixing"],
    )
    nothing = jax.tree.map(np.zeros_like, block["channel_mixing"])
    module = AblatedBlock("untied", 1, 7, 9, "tanh", "float32")
    x = np.random.default_rng(1).normal(size=(2, 12, 12)).astype(np.float32)
    mixed = [
        module.apply({"params": block | {"channel_mixing": nothing, "token_mixing": mixing}}, x)
        for mixing in (block["token_mixing"], other)
    ]
    differ = np.abs(mixed[0] - mixed[1]).max(axis=(0, 1))
    assert np.flatnonzero(differ).tolist() == [5]


def test_groups_are_of_neighbouring_channels():
    """A layer by the paper's words: columns of S G values, C / G of them, each of G neighbours."""
    model = ablated("grouped", groups=3)
    params = parameters(model)
    kernel = params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"]
    assert kernel.shape == (12 * 3, 7)
    with_head = logits(model, params)
    # Channels 0 ... 2 and 3 ... 5 change places everywhere: the columns do, and nothing else.
    order = np.r_[3:6, 0:3, 6:12]

    def moved(path, leaf):
        names = [key.key for key in path]
        if "token_mixing" in names or names[-2:] == ["head", "bias"]:
            return leaf
        if names[0] == "head" or names[-2:] == ["Dense_0", "kernel"]:
            return leaf[order]
        return leaf if names[-2] == "Dense_0" else leaf[..., order]

    close(logits(model, jax.tree_util.tree_map_with_path(moved, params)), with_head)


def test_a_pyramid_keeps_a_quarter_of_the_tokens():
    model = ablated("pyramid", stages=2)
    shapes = jax.tree.map(jnp.shape, parameters(model))
    assert shapes["MixerBlock_1"]["token_mixing"]["Dense_1"]["kernel"] == (7, 12)
    assert shapes["Stage1_MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"] == (12, 7)
    assert shapes["Stage1_MixerBlock_0"]["token_mixing"]["Dense_1"]["kernel"] == (7, 3)
    assert shapes["Stage1_MixerBlock_1"]["token_mixing"]["Dense_0"]["kernel"] == (3, 7)
    assert len(shapes) == 4 + 3


@pytest.mark.long
@variants
def test_every_parameter_counts_also_scanned_and_rematerialised(kind):
    model = ablated(kind, dropout=0.1, stochastic_depth=0.3, **CHANGES[kind])
    params, key = parameters(model), jax.random.key(2)

    def loss(model, params):
        found = model.apply({"params": params}, IMAGES, train=True, rngs={"dropout": key})
        return (found**2).mean()

    with jax.default_matmul_precision("highest"):
        wanted = jax.grad(lambda p: loss(model, p))(params)
        found = jax.grad(lambda p: loss(model.clone(scan=True, remat="full"), p))(params)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(found), strict=True
    ):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4 * np.abs(one).max())
        assert np.abs(one).max() > 0, path


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("tied", {}, "token_mixing='tied': expected one of shared, untied"),
        ("grouped", {"groups": 5}, "groups=5 does not divide hidden_dim=12"),
        ("untied", {"groups": 3}, "groups=3 is for token_mixing 'grouped'"),
        ("pyramid", {"stages": 3}, "stages=3 does not divide num_blocks=4"),
        ("shared", {"stages": 2}, "stages=2 is for token_mixing 'pyramid'"),
    ],
)
def test_fields_that_do_not_fit_are_refused(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(ablated(kind, **fields).init, jax.random.key(0), IMAGES)


def test_parameters_for_other_patches_are_refused():
    model = mixer.create_model("GroupedMixer-S/32", 3, num_blocks=1)
    images = np.zeros((1, 64, 64, 3), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)
    with pytest.raises(ValueError, match="made for 4 tokens"):
        jax.eval_shape(model.apply, params, np.zeros((1, 64, 96, 3), np.float32))
    with pytest.raises(mixer.BadInput, match="no rule for its parameters"):
        mixer.at_resolution(model, 96, 64)
