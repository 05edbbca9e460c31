"""The mean of the probabilities of several views of an image, computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

from mixer import errors
from mixer.data import five_crops, transforms
from mixer.evaluation import views
from mixer.evaluation.views import VIEWS

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(6 * 5 * 3, 4)).astype(np.float32) / 400


def apply(params, images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ params


def crops_of(image, height=6, width=5):
    """Centre, top left, top right, bottom left, bottom right."""
    tall, wide = image.shape[0] - height, image.shape[1] - width
    places = [(tall // 2, wide // 2), (0, 0), (0, wide), (tall, 0), (tall, wide)]
    return [image[top : top + height, left : left + width] for top, left in places]


@pytest.mark.parametrize("outputs", ["softmax", "sigmoid", "numbers"])
@pytest.mark.parametrize("name", VIEWS)
def test_probabilities_are_those_averaged_by_hand(name, outputs):
    images = RNG.integers(0, 256, (3, 11, 8, 3), np.uint8)
    chain = transforms.parse("central_crop((6, 5))", (6, 5))
    if VIEWS[name].crops > 1:
        chain = five_crops.of(chain, "")
    rows = np.stack([chain(image, RNG) for image in images])
    call = views.averaged(apply, VIEWS[name], outputs)
    found = jax.jit(call)(KERNEL, rows)
    likelihood = {"softmax": softmax, "sigmoid": expit, "numbers": np.asarray}[outputs]
    for image, logits in zip(images, np.asarray(found, np.float64), strict=True):
        seen = crops_of(image) if "crops" in name else crops_of(image)[:1]
        seen += [view[:, ::-1] for view in seen] if name in ("flip", "ten_crops") else []
        each = [likelihood((view.ravel() @ KERNEL).astype(np.float64)) for view in seen]
        assert len(seen) == VIEWS[name].count
        np.testing.assert_allclose(likelihood(logits), np.mean(each, axis=0), atol=1e-5)


def test_a_single_view_leaves_the_program_as_it_is():
    assert views.averaged(apply, VIEWS[""], "softmax") is apply


def test_the_central_crop_is_the_first_of_five(tmp_path):
    image = RNG.integers(0, 256, (50, 40, 3), np.uint8)
    text = "resize_small(12)|central_crop(8)"
    one = transforms.parse(text, (8, 8))
    five = five_crops.of(one, text)(image, RNG)
    assert five.shape == (40, 8, 3)
    np.testing.assert_array_equal(five[:8], one(image, RNG))
    whole = transforms.ResizeSmall(12)(image, RNG)
    np.testing.assert_array_equal(five.reshape(5, 8, 8, 3), crops_of(whole, 8, 8))


def test_what_is_refused():
    with pytest.raises(errors.BadInput, match="'fliip'. Did you mean 'flip'.*five_crops"):
        views.parse("fliip", "predict.views")
    with pytest.raises(errors.BadInput, match="'resize' does not end in central_crop.*views=flip"):
        five_crops.of(transforms.parse("resize", (8, 8)), "resize")
