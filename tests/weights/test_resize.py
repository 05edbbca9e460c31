"""Another resolution: the paper's scheme is exact; resampling has its documented properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import mixer
from mixer.models.mixer import Mixer
from mixer.weights import fitting, resize

P = 4


def model(**fields):
    sizes = {"num_blocks": 2, "hidden_dim": 8, "tokens_mlp_dim": 6, "channels_mlp_dim": 16}
    return Mixer(**({"num_classes": 5, "patch_size": P} | sizes | fields))


def params(grid, seed=0, **fields):
    rng = np.random.default_rng(seed)
    shapes = fitting.shapes(model(**fields), (grid[0] * P, grid[1] * P))
    return jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(np.float32), shapes)


def images(grid, seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (2, grid[0] * P, grid[1] * P, 3)).astype(np.float32)


def logits(of, weights, pixels):
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(of.apply)({"params": weights}, pixels))


def enlarged(grid, new, method="auto", weights=None):
    """(model, parameters) for the grid `new` from those for `grid`."""
    sizes = (new[0] * P, new[1] * P), (grid[0] * P, grid[1] * P)
    weights = params(grid) if weights is None else weights
    target = mixer.at_resolution(model(), *sizes, method)
    resized = resize.resize(weights, model(), *sizes, method)
    expected = fitting.shapes(target, sizes[0])
    jax.tree.map(lambda r, e: (r.shape, r.dtype) == (e.shape, e.dtype) or 1 / 0, resized, expected)
    return target, resized


@pytest.mark.parametrize("factors", [(2, 2), (1, 2), (3, 1), (3, 2), (3, 3)])
def test_block_diagonal_is_the_mean_over_the_parts(factors):
    """Appendix C, also with an old grid that is not square."""
    old, (high, wide) = (2, 3), factors
    large = images((old[0] * high, old[1] * wide))
    target, resized = enlarged(old, (old[0] * high, old[1] * wide))
    assert target.tokens_mlp_dim == 6 * high * wide
    parts = [part for rows in np.split(large, high, 1) for part in np.split(rows, wide, 2)]
    of_parts = logits(model(), params(old), np.concatenate(parts))
    mean = of_parts.reshape(high * wide, len(large), -1).mean(axis=0)
    np.testing.assert_allclose(logits(target, resized, large), mean, rtol=0, atol=1e-5)
    assert np.ptp(mean) > 0.1


def test_twice_two_is_four():
    half, halfway = enlarged((2, 3), (4, 6))
    sizes = (8 * P, 12 * P), (4 * P, 6 * P)
    twice = resize.resize(halfway, half, *sizes)
    target, once = enlarged((2, 3), (8, 12))
    assert mixer.at_resolution(half, *sizes) == target
    large = images((8, 12))
    np.testing.assert_allclose(
        logits(target, twice, large), logits(target, once, large), rtol=0, atol=1e-5
    )


def test_the_papers_sizes():
    """B/16 and L/16 at 448: parameters with a head for 1,000 classes, counted independently."""
    for name, count in (("Mixer-B/16", 86_996_392), ("Mixer-L/16", 280_500_584)):
        large = mixer.at_resolution(mixer.create_model(name, 1000), 448, 224)
        shapes = fitting.shapes(large, (448, 448))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("new", [(3, 5), (2, 2), (7, 3), (6, 9)])
def test_resampling_keeps_the_response_to_constant_tokens(new):
    """In hidden units; and in the representation, if nothing is added by position."""
    old = (3, 4)
    weights = params(old)
    for i in range(2):
        mlp = weights[f"MixerBlock_{i}"]["token_mixing"]["Dense_1"]
        mlp["kernel"][:] = mlp["kernel"][:, :1]
        mlp["bias"][:] = mlp["bias"][0]
    target, resized = enlarged(old, new, "resample", weights)
    assert target == model()
    mlp = resized["MixerBlock_1"]["token_mixing"]
    before = weights["MixerBlock_1"]["token_mixing"]["Dense_0"]
    np.testing.assert_allclose(mlp["Dense_0"]["kernel"].sum(0), before["kernel"].sum(0), atol=1e-5)
    np.testing.assert_array_equal(mlp["Dense_0"]["bias"], before["bias"])

    def grey(grid):
        return np.full((1, grid[0] * P, grid[1] * P, 3), 0.3, np.float32)

    np.testing.assert_allclose(
        logits(target, resized, grey(new)), logits(model(), weights, grey(old)), atol=1e-5
    )


def mixed(weights, tokens):
    """Applies token mixing to [rows, columns, C]."""
    first, second = weights["Dense_0"], weights["Dense_1"]
    hidden = jax.nn.gelu(tokens.reshape(-1, tokens.shape[-1]).T @ first["kernel"] + first["bias"])
    return (hidden @ second["kernel"] + second["bias"]).T.reshape(tokens.shape)


@pytest.mark.parametrize("new", [(5, 4), (4, 7), (3, 5), (9, 8)])
def test_resampling_commutes_with_enlarging(new):
    """Enlarging (with JAX's own resize), then mixing, equals mixing, then enlarging."""
    before, after = (w["MixerBlock_0"]["token_mixing"] for w in resampled((3, 4), new))
    small = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 7)).astype(np.float32))
    enlarge = lambda tokens: jax.image.resize(tokens, (*new, 7), "linear")
    with jax.default_matmul_precision("highest"):
        found, expected = mixed(after, enlarge(small)), enlarge(mixed(before, small))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("new", [(2, 4), (3, 2), (1, 3)])
def test_resampling_to_fewer_patches_mixes_between_two_resizes(new):
    before, after = (w["MixerBlock_0"]["token_mixing"] for w in resampled((3, 4), new))
    tokens = jnp.asarray(np.random.default_rng(2).normal(size=(*new, 7)).astype(np.float32))
    resized = lambda tokens, grid: jax.image.resize(tokens, (*grid, 7), "linear")
    with jax.default_matmul_precision("highest"):
        expected = resized(mixed(before, resized(tokens, (3, 4))), new)
        found = mixed(after, tokens)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def resampled(old, new):
    weights = params(old)
    return weights, enlarged(old, new, "resample", weights)[1]


SINGLE = {
    "ResMLP-S12": {"num_blocks": 2, "hidden_dim": 8, "channels_mlp_dim": 16},
    "gMLP-S": {"num_blocks": 2, "hidden_dim": 8, "ffn_dim": 16},
}


def single(name, old, new, method="auto"):
    """A model that mixes with one matrix, its parameters for grid `old`, and those for `new`."""
    of = mixer.create_model(name, 5, patch_size=P, **SINGLE[name])
    sizes = (new[0] * P, new[1] * P), (old[0] * P, old[1] * P)
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(of, sizes[1])
    weights = jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(np.float32), shapes)
    assert mixer.at_resolution(of, *sizes, method) == of
    resized = resize.resize(weights, of, *sizes, method)
    expected = fitting.shapes(of, sizes[0])
    jax.tree.map(lambda r, e: (r.shape, r.dtype) == (e.shape, e.dtype) or 1 / 0, resized, expected)
    return of, weights, resized


@pytest.mark.parametrize("name", SINGLE)
def test_block_diagonal_of_one_matrix_is_the_mean_over_the_parts(name):
    of, weights, resized = single(name, (2, 3), (4, 9))
    large = images((4, 9))
    parts = [part for rows in np.split(large, 2, 1) for part in np.split(rows, 3, 2)]
    mean = logits(of, weights, np.concatenate(parts)).reshape(6, len(large), -1).mean(axis=0)
    np.testing.assert_allclose(logits(of, resized, large), mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, block", [("ResMLP-S12", "ResMLPBlock"), ("gMLP-S", "GMLPBlock")])
@pytest.mark.parametrize("new", [(5, 4), (2, 3), (6, 8)])
def test_resampling_one_matrix(name, block, new):
    """To more patches, it commutes with enlarging; to fewer, it mixes between two resizes."""
    old = (3, 4)
    _, weights, resized = single(name, old, new, "resample")
    before, after = (w[f"{block}_1"]["token_mixing"] for w in (weights, resized))

    def mix(dense, tokens):
        y = dense["kernel"].T @ tokens.reshape(-1, 7) + dense["bias"][:, None]
        return y.reshape(tokens.shape)

    to = lambda grid, tokens: np.asarray(jax.image.resize(tokens, (*grid, 7), "linear"))
    rng = np.random.default_rng(2)
    if new > old:
        small = rng.normal(size=(*old, 7)).astype(np.float32)
        found, expected = mix(after, to(new, small)), to(new, mix(before, small))
    else:
        tokens = rng.normal(size=(*new, 7)).astype(np.float32)
        found, expected = mix(after, tokens), to(new, mix(before, to(old, tokens)))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("method", resize.METHODS)
def test_the_same_grid_changes_nothing(method):
    target, resized = enlarged((3, 4), (3, 4), method)
    assert target == model()
    jax.tree.map(np.testing.assert_array_equal, resized, params((3, 4)))
    np.testing.assert_array_equal(resize.bilinear(7, 7), np.eye(7))


class Flat(nn.Module):
    """A user's own model."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


def test_models_without_a_grid():
    """Unchanged if the parameters have the same shapes at both sizes, else refused."""
    assert mixer.at_resolution(Flat(), 24, 24) == Flat()
    assert mixer.at_resolution(nn.Dense(3), 24, 12) == nn.Dense(3)
    bit = mixer.create_model("BiT-R50x1", 10)
    assert mixer.at_resolution(bit, 480, 224) == bit
    with pytest.raises(mixer.BadInput, match="a Flat cannot be resized from 12 x 12 to 24 x 24"):
        mixer.at_resolution(Flat(), 24, 12)


def test_auto_chooses_the_method():
    at = lambda new, old, method="auto": mixer.at_resolution(model(), new, old, method)
    assert at(24, 12).tokens_mlp_dim == 24 and at((24, 12), 12).tokens_mlp_dim == 12
    assert at(20, 12) == at(12, 24) == at((24, 16), 12) == at(24, 12, "resample") == model()


@pytest.mark.parametrize(
    "sizes, message",
    [
        ((20, 12, "block_diagonal"), r"from 3 x 3 patches \(12 x 12\) to 5 x 5 \(20 x 20\)"),
        ((12, 24, "block_diagonal"), "integer multiple of the old: from 6 x 6 .* to 3 x 3"),
        (
            (22, 12),
            "22 x 22 is not divisible by patch_size 4: the nearest divisible size is 24 x 24",
        ),
        ((24, (0, 8)), "image size 0 x 8 is not"),
        ((24, 12, "bicubic"), "unknown method 'bicubic'"),
    ],
)
def test_refusals(sizes, message):
    with pytest.raises(mixer.BadInput, match=message):
        mixer.at_resolution(model(), *sizes)


@pytest.mark.parametrize("patch", (4, 6, 8, 13))
def test_a_resized_stem_embeds_resized_patches_alike(patch):
    weights = params((1, 1))
    other = mixer.with_patch_size(weights, patch)
    assert other["stem"]["kernel"].shape == (patch, patch, 3, 8)
    patches = images((1, 1))
    resized = jax.image.resize(patches, (2, patch, patch, 3), "linear")
    embed = lambda w, x: np.einsum("nhwc,hwcd->nd", x, w["stem"]["kernel"])
    np.testing.assert_allclose(embed(other, resized), embed(weights, patches), atol=1e-4)
    other["stem"] = weights["stem"]
    jax.tree.map(np.testing.assert_array_equal, other, weights)


def test_a_smaller_patch_embeds_smooth_patches_alike():
    """Fewer pixels cannot distinguish all patches, but nearly those that vary linearly."""
    weights = params((1, 1))
    other = mixer.with_patch_size(weights, 3)
    flat = np.full((1, 4, 4, 3), 0.7, np.float32)
    embed = lambda w, x: np.einsum("nhwc,hwcd->nd", x, w["stem"]["kernel"])
    np.testing.assert_allclose(embed(other, flat[:, :3, :3]), embed(weights, flat), atol=1e-4)
    with pytest.raises(mixer.BadInput, match="patch_size=0"):
        mixer.with_patch_size(weights, 0)
    for others in ({"conv_root": {}, "head": {}}, {"stem": {}, "stem_norm": {}}):
        with pytest.raises(mixer.BadInput, match="for models with patches .* but .*, ..."):
            mixer.with_patch_size(others, 3)


@pytest.mark.parametrize("size", [64.0, "64", (64,), (64, 64, 3), (64, 32.5), None])
def test_a_size_is_one_integer_or_two(size):
    with pytest.raises(mixer.BadInput, match="expected pixels, one integer or \\(height, width\\)"):
        resize.pair(size)


def test_sizes_may_be_numpys_or_in_a_list():
    assert resize.pair(np.int64(64)) == resize.pair([64, 64]) == resize.pair((np.int32(64), 64))
