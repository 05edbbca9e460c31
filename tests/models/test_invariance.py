"""Figure 4's statement, exactly: a Mixer is a Mixer to images whose patches have changed places."""

import jax
import numpy as np
import pytest

import mixer
from mixer.data.permutations import PermutePatches, PermutePixels, patch_order

SIDE, PATCH, SEED = (16, 24), 4, 3
GRID = (SIDE[0] // PATCH, SIDE[1] // PATCH)
PLACES, WITHIN = patch_order(GRID, PATCH, SEED)
MIXER = mixer.create_model(
    "Mixer-S/16",
    5,
    patch_size=PATCH,
    num_blocks=3,
    hidden_dim=8,
    tokens_mlp_dim=6,
    channels_mlp_dim=10,
)
VIT = mixer.create_model(
    "ViT-S/16", 5, patch_size=PATCH, num_blocks=2, hidden_dim=12, mlp_dim=16, num_heads=3
)
BIT = mixer.create_model("BiT-R50x1", 5, num_blocks=(1, 1), width=32)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, *SIDE, 3), np.uint8)


def moved(images, transform):
    return np.stack([transform(image, None) for image in images])


def parameters(model):
    """Random ones; the head and the biases too, so that all of them count."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *SIDE, 3), np.float32))
    rng = np.random.default_rng(1)
    draw = lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
    return jax.tree.map(draw, shapes["params"])


def logits(model, params, images):
    with jax.default_matmul_precision("highest"):
        return np.asarray(model.apply({"params": params}, images.astype(np.float32) / 127.5 - 1))


def stem_moved(params):
    """The stem's rows in the pixels' new order."""
    kernel = params["stem"]["kernel"]
    rows = kernel.reshape(PATCH * PATCH, *kernel.shape[2:])[WITHIN]
    return params | {"stem": params["stem"] | {"kernel": rows.reshape(kernel.shape)}}


def mixer_moved(params):
    """Also the rows of each block's first token-mixing matrix and the columns of its second."""

    def change(mixing):
        first, second = mixing["Dense_0"], mixing["Dense_1"]
        return {
            "Dense_0": first | {"kernel": first["kernel"][PLACES]},
            "Dense_1": {"kernel": second["kernel"][:, PLACES], "bias": second["bias"][PLACES]},
        }

    return {
        name: part | {"token_mixing": change(part["token_mixing"])}
        if "token_mixing" in part
        else part
        for name, part in stem_moved(params).items()
    }


def vit_moved(params):
    """Also the rows of the table of positions, those of the class token aside."""
    table = params["pos_embedding"]
    table = np.concatenate([table[:, :1], table[:, 1:][:, PLACES]], axis=1)
    return stem_moved(params) | {"pos_embedding": table}


@pytest.mark.parametrize(("model", "change"), [(MIXER, mixer_moved), (VIT, vit_moved)])
def test_parameters_moved_with_the_patches_give_the_same_logits(model, change, images):
    params = parameters(model)
    wanted = logits(model, params, images)
    shuffled = moved(images, PermutePatches(PATCH, SEED))
    spread = wanted.std(axis=0).mean()  # between images
    np.testing.assert_allclose(
        logits(model, change(params), shuffled), wanted, rtol=0, atol=1e-3 * spread
    )
    # Neither half of the change is enough.
    assert np.abs(logits(model, params, shuffled) - wanted).max() > 0.1 * spread
    assert np.abs(logits(model, stem_moved(params), shuffled) - wanted).max() > 0.1 * spread


def test_no_order_of_the_stems_rows_makes_a_convolution_see_the_same(images):
    """Its windows overlap the patches: of an image they hold what no window of the other holds.

    A stem's response to one image is a set of numbers, one a place. If the same kernel in another
    order gave the other image's, the sums of each window's pixels would be the same set.
    """
    params = parameters(BIT)
    shuffled = moved(images, PermutePatches(PATCH, SEED))
    sums = [np.sort(window_sums(x), axis=None) for x in (images, shuffled)]
    assert np.abs(sums[0] - sums[1]).max() > 100
    found, wanted = logits(BIT, params, shuffled), logits(BIT, params, images)
    assert np.abs(found - wanted).max() > 0.1 * wanted.std(axis=0).mean()


def window_sums(images, size=7, stride=2):  # the windows of a BiT's stem
    padded = np.pad(images.astype(int).sum(-1), ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows[:, ::stride, ::stride].sum(axis=(-2, -1))


def test_what_the_permutations_move(images):
    """Whole pixels; `permute_patches` keeps each patch's pixels together, `permute_pixels` none."""
    number = np.arange(SIDE[0] * SIDE[1]).reshape(SIDE)
    image = np.stack([number % 256, number // 256, number * 0 + 7], -1).astype(np.uint8)
    patch = lambda y, x: y // PATCH * GRID[1] + x // PATCH
    for transform, together in ((PermutePatches(PATCH, SEED), True), (PermutePixels(SEED), False)):
        found = transform(image, None)
        source = found.astype(int) @ (1, 256, 0)
        np.testing.assert_array_equal(np.sort(source, axis=None), number.ravel())
        assert (found[..., 2] == 7).all()
        came_from = patch(*np.divmod(source, SIDE[1]))
        tiles = came_from.reshape(GRID[0], PATCH, GRID[1], PATCH).swapaxes(1, 2)
        spread = np.ptp(tiles.reshape(-1, PATCH * PATCH), axis=1)
        assert (spread == 0).all() if together else (spread > 0).all()
        assert (source != number).mean() > 0.9
        np.testing.assert_array_equal(transform(image, np.random.default_rng(5)), found)
        other = type(transform)(*([PATCH] if together else []), SEED + 1)
        assert (other(image, None) != found).any()


def test_patches_that_do_not_tile_the_image_are_refused(images):
    with pytest.raises(ValueError, match="patches of 5 pixels do not tile 16 x 24"):
        PermutePatches(5)(images[0], None)
    with pytest.raises(ValueError, match="patch_size 0 is not a positive integer"):
        PermutePatches(0)
