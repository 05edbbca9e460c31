"""Every operation against its definition, pixel by pixel, or against Pillow's where they agree."""

import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from mixer import errors
from mixer.data import randaugment as ra
from mixer.data import transforms


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    smooth = np.linspace(20, 220, 40 * 30 * 3).reshape(40, 30, 3)
    return (smooth + rng.integers(-20, 20, (40, 30, 3))).clip(0, 255).astype(np.uint8)


def pillow(function, image, *args):
    return np.asarray(function(Image.fromarray(image), *args))


def test_invert_posterize_solarize_equalize_are_pillows(image):
    np.testing.assert_array_equal(ra.invert(image), pillow(ImageOps.invert, image))
    np.testing.assert_array_equal(ra.equalize(image), pillow(ImageOps.equalize, image))
    np.testing.assert_array_equal(ra.equalize(image[:2, :2]), image[:2, :2])
    for bits in (1, 4, 6, 8):
        np.testing.assert_array_equal(
            ra.posterize(image, bits), pillow(ImageOps.posterize, image, bits)
        )
    np.testing.assert_array_equal(ra.posterize(image, 0), ra.posterize(image, 1))
    for threshold in (0, 128, 256):
        np.testing.assert_array_equal(
            ra.solarize(image, threshold), pillow(ImageOps.solarize, image, threshold)
        )


def test_autocontrast(image):
    """TensorFlow's float32 operations, one by one, for all ranges of a channel's values."""
    low, high = np.triu_indices(256, 1)
    shares = [(low * (8 - share) + high * share) // 8 for share in range(9)]
    values = np.array(shares).astype(np.float32)  # [9, pairs]
    scale = np.float32(255) / (high.astype(np.float32) - low.astype(np.float32))
    offset = -low.astype(np.float32) * scale
    want = np.clip(values * scale + offset, 0, 255).astype(np.uint8)
    assert values.dtype == scale.dtype == offset.dtype == np.float32
    for at in range(0, len(low), 3):  # a pair in each channel
        got = ra.autocontrast(values[None, :, at : at + 3].astype(np.uint8))
        np.testing.assert_array_equal(got[0], want[:, at : at + 3])
    image[..., 2] = 77
    np.testing.assert_array_equal(ra.autocontrast(image)[..., 2], 77)


def test_solarize_add(image):
    x = image.astype(int)
    want = np.where(x < 128, np.minimum(x + 110, 255), x)
    np.testing.assert_array_equal(ra.solarize_add(image, 110), want)


def exact_blend(degenerate, image, factor):
    a, b = (np.broadcast_to(x, image.shape).astype(np.float32) for x in (degenerate, image))
    return np.trunc(np.clip(a + np.float32(factor) * (b - a), 0, 255))


@pytest.mark.parametrize("factor", [0.1, 1.0, 1.9, 3.7])
def test_enhancements(image, factor):
    x = image.astype(np.float64)
    grey = np.trunc((x / 255 * [0.2989, 0.5870, 0.1140]).sum(-1) * 255.5)
    # If the luma is close to an integer, float32 and float64 may fall on different sides of it.
    clear = np.abs((x / 255 * [0.2989, 0.5870, 0.1140]).sum(-1) * 255.5 % 1 - 0.5) < 0.49
    assert clear.mean() > 0.9
    got = ra.color(image, factor)
    np.testing.assert_array_equal(got[clear], exact_blend(grey[..., None], image, factor)[clear])
    np.testing.assert_array_equal(ra.brightness(image, factor), exact_blend(0, image, factor))
    got = ra.contrast(image, factor, mean=196.7)
    np.testing.assert_array_equal(got, exact_blend(196, image, factor))
    mean = math.floor(ra.grey(image).mean())
    np.testing.assert_array_equal(ra.contrast(image, factor), exact_blend(mean, image, factor))
    smooth = x.copy()
    for i in range(1, 39):
        for j in range(1, 29):
            window = x[i - 1 : i + 2, j - 1 : j + 2].sum((0, 1)) + 4 * x[i, j]
            smooth[i, j] = window // 13
    got = ra.sharpness(image, factor)
    np.testing.assert_array_equal(got, exact_blend(smooth, image, factor))
    if factor == 1.0:
        np.testing.assert_array_equal(got, image)


def exact_affine(image, source):
    """`source(x, y)` gives the input coordinates; nearest, halves away from zero, grey outside."""
    out = np.full_like(image, 128)
    half_away = lambda v: int(math.copysign(math.floor(abs(v) + 0.5), v))
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            sx, sy = map(half_away, source(x, y))
            if 0 <= sx < image.shape[1] and 0 <= sy < image.shape[0]:
                out[y, x] = image[sy, sx]
    return out


@pytest.mark.parametrize("sign", [1, -1])
def test_shears_and_translations(image, sign):
    s = sign * 0.375
    want = exact_affine(image, lambda x, y: (x + s * y, y))
    np.testing.assert_array_equal(ra.shear_x(image, s), want)
    want = exact_affine(image, lambda x, y: (x, s * x + y))
    np.testing.assert_array_equal(ra.shear_y(image, s), want)
    for pixels in (sign * 7, sign * 100):
        want = exact_affine(image, lambda x, y, p=pixels: (x + p, y))
        np.testing.assert_array_equal(ra.translate_x(image, pixels), want)
        want = exact_affine(image, lambda x, y, p=pixels: (x, y + p))
        np.testing.assert_array_equal(ra.translate_y(image, pixels), want)


@pytest.mark.parametrize("degrees", [-60, -7.5, 30, 45])
def test_rotation_is_about_the_centre(image, degrees):
    a = math.radians(degrees)
    cx, cy = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2

    def source(x, y):
        dx, dy = x - cx, y - cy
        return cx + math.cos(a) * dx - math.sin(a) * dy, cy + math.sin(a) * dx + math.cos(a) * dy

    different = (ra.rotate(image, degrees) != exact_affine(image, source)).any(-1)
    assert different.mean() < 0.01, "ties fall to either side"
    square = image[:30]
    np.testing.assert_array_equal(np.rot90(square, 2), ra.rotate(square, 180))


def test_cutout_is_a_grey_square_clipped_at_the_borders(image):
    cut = ra.cutout(image, 5, x=2, y=20)
    grey = (cut == 128).all(-1) & (cut != image).any(-1)
    assert grey[15:25, 0:7].mean() > 0.9
    grey[15:25, 0:7] = False
    assert not grey.any()


def test_levels_are_the_tables():
    for magnitude, enhance in ((10, 1.9), (15, 2.8), (20, 3.7)):
        assert ra.RandAugment(2, magnitude)._enhance() == pytest.approx(enhance)
    square = np.full((224, 224, 3), 60, np.uint8)
    rng = np.random.default_rng(0)
    # The quirky "mean": 224 * 224 / 256 = 196, whatever the image.
    size = square.shape[:2]
    quirky = ra.contrast(square, **ra.RandAugment(2, 10)._contrast(size, rng))
    np.testing.assert_array_equal(quirky, exact_blend(196, square, 1.9))
    true = ra.contrast(square, **ra.RandAugment(2, 10, quirks=False)._contrast(size, rng))
    np.testing.assert_array_equal(true, exact_blend(ra.grey(square).mean() // 1, square, 1.9))
    # The threshold that wraps: 256 -> 0, 384 -> 128, 512 -> 0.
    for magnitude, threshold in ((10, 0), (15, 128), (20, 0)):
        got = ra.solarize(square, **ra.RandAugment(2, magnitude)._solarize(size, rng))
        np.testing.assert_array_equal(got, ra.solarize(square, threshold))
        unwrapped = ra.RandAugment(2, magnitude, quirks=False)._solarize(size, rng)
        plain = ra.solarize(square, **unwrapped)
        np.testing.assert_array_equal(plain, square)


def test_all_sixteen_are_equally_likely(monkeypatch):
    seen = []
    spies = tuple(((lambda x, i=i: seen.append(i) or x), lambda *_: {}) for i in range(16))
    assert len(ra.OPERATIONS) == 16
    monkeypatch.setattr(ra, "OPERATIONS", spies)
    augment = ra.RandAugment(2, 15)
    for seed in range(4000):
        augment(np.zeros((4, 4, 3), np.uint8), np.random.default_rng(seed))
    counts = np.bincount(seen, minlength=16)
    assert counts.sum() == 8000
    np.testing.assert_allclose(counts / 8000, 1 / 16, atol=0.012)


def test_signs_are_fair_and_images_keep_their_shape(image):
    augment = ra.RandAugment(2, 15)
    signs = [np.sign(augment._signed(1, np.random.default_rng(i))) for i in range(1000)]
    assert abs(np.mean(signs)) < 0.1
    chain = transforms.parse("randaug(2, 15)|resize", (40, 30))
    for seed in range(60):
        made = chain(image, np.random.default_rng(seed))
        assert made.shape == image.shape and made.dtype == np.uint8


@pytest.mark.parametrize(
    "text", ["randaug(2, 30)", "randaug(-1, 5)", "randaug(2.5, 5)", "randaug(2)"]
)
def test_bad_magnitudes_are_refused(text):
    with pytest.raises(errors.BadInput, match=r"randaug\(layers, magnitude, quirks=True\)"):
        transforms.parse(text, (8, 8))
