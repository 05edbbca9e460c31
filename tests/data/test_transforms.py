import tracemalloc

import numpy as np
import pytest
from PIL import Image

from mixer import calls, errors
from mixer.data import resizing, transforms


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(*shape, seed=1):
    return rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def bilinear(image, height, width):
    """Half-pixel centres, edges clamped, no antialiasing; float64."""

    def axis(old, new):
        at = (np.arange(new) + 0.5) * old / new - 0.5
        low = np.floor(at)
        share = at - low
        clamp = lambda i: np.clip(i, 0, old - 1).astype(int)
        return clamp(low), clamp(low + 1), share

    y0, y1, fy = axis(image.shape[0], height)
    x0, x1, fx = axis(image.shape[1], width)
    image = image.astype(np.float64)
    rows = image[y0] * (1 - fy)[:, None, None] + image[y1] * fy[:, None, None]
    return rows[:, x0] * (1 - fx)[:, None] + rows[:, x1] * fx[:, None]


def area(image, height, width):
    """Mean over the old area under each new pixel; float64, pixel by pixel."""
    out = np.zeros((height, width, 3))
    sy, sx = image.shape[0] / height, image.shape[1] / width
    for i in range(height):
        for j in range(width):
            total = 0
            for y in range(int(i * sy), int(np.ceil((i + 1) * sy - 1e-9))):
                wy = min(y + 1, (i + 1) * sy) - max(y, i * sy)
                for x in range(int(j * sx), int(np.ceil((j + 1) * sx - 1e-9))):
                    wx = min(x + 1, (j + 1) * sx) - max(x, j * sx)
                    total = total + wy * wx * image[y, x].astype(np.float64)
            out[i, j] = total / (sy * sx)
    return out


def assert_truncated(got, want):
    """Equal to the truncated float result, except where rounding decides near an integer."""
    assert got.dtype == np.uint8
    low, high = np.floor(want - 2e-3), np.floor(want + 2e-3)
    assert ((got == low) | (got == high)).all()


@pytest.mark.parametrize("size", [(8, 8), (13, 29), (60, 45), (37, 20)])
def test_resizes_against_numpy(size):
    image = picture(37, 29)
    assert_truncated(transforms.resize_bilinear(image, *size), bilinear(image, *size))
    assert_truncated(transforms.resize_area(image, *size), area(image, *size))


def test_area_enlarging_by_an_integer_repeats_blocks():
    image = picture(32, 32)
    want = image.repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(transforms.resize_area(image, 256, 256), want)


def pillow_bicubic(image, size, axis):
    """Keys' cubic (a = -0.5), as wide as the old pixels under a new one, with 22 fraction bits."""
    old = image.shape[axis]
    scale = max(old / size, 1)
    weights = np.zeros((size, old))
    for i in range(size):
        centre = (i + 0.5) * old / size
        start, stop = max(int(centre - 2 * scale + 0.5), 0), min(int(centre + 2 * scale + 0.5), old)
        x = np.abs(np.arange(start, stop) - centre + 0.5) / scale
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        cubic = np.where(x < 1, near, np.where(x < 2, far, 0))
        weights[i, start:stop] = cubic / cubic.sum()
    fixed = np.trunc(weights * 2**22 + np.copysign(0.5, weights)).astype(np.int64)
    sums = np.moveaxis(np.tensordot(fixed, image.astype(np.int64), (1, axis)), 0, axis)
    return np.clip((sums + 2**21) >> 22, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(8, 8), (13, 29), (60, 45), (37, 20)])
def test_bicubic_against_numpy(size):
    """The columns are computed from rounded rows."""
    image = picture(37, 29)
    want = pillow_bicubic(pillow_bicubic(image, size[1], axis=1), size[0], axis=0)
    np.testing.assert_array_equal(transforms.resize_bicubic(image, *size), want)


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (333, 500), (256, 300), (90, 61)])
def test_evaluation_crop_of_timm(shape):
    """torchvision makes the longer side int(256 * long / short)."""
    image = picture(*shape)
    text = "resize_small(256, method='bicubic')|central_crop(224)"
    got = transforms.parse(text, (224, 224))(image, rng())
    height, width = (int(256 * side / min(shape)) for side in shape)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    top, left = (height - 224) // 2, (width - 224) // 2
    np.testing.assert_array_equal(got, np.asarray(resized)[top : top + 224, left : left + 224])


@pytest.mark.parametrize("value", [0, 1, 100, 199, 254, 255])
def test_resizing_keeps_a_constant_image(value):
    image = np.full((375, 500, 3), value, np.uint8)
    assert (transforms.resize_bilinear(image, 224, 224) == value).all()
    assert (transforms.resize_area(image, 256, 341) == value).all()


def test_evaluation_crop_of_the_paper():
    image = picture(375, 500)
    got = transforms.parse("resize_small(256)|central_crop(224)", (224, 224))(image, rng())
    middle = transforms.resize_area(image, 256, 341)[16:240, 58:282]
    np.testing.assert_array_equal(got, middle)


@pytest.mark.parametrize("method", ["area", "bicubic"])
@pytest.mark.parametrize("side", [20, 29, 64])  # smaller, as large as it is, larger
def test_a_crop_computes_only_its_part_of_a_resized_image(method, side):
    image = picture(37, 29)
    resize = transforms.ResizeSmall(side, method)
    whole = resize(image, rng())
    for seed in range(20):
        chain = transforms.Chain((resize, transforms.RandomCrop((19, 11))))
        top, left, *_ = transforms.RandomCrop((19, 11)).window(*whole.shape[:2], rng(seed))
        part = whole[top : top + 19, left : left + 11]
        np.testing.assert_array_equal(chain(image, rng(seed)), part)


@pytest.mark.parametrize("method", ["area", "bicubic"])
@pytest.mark.parametrize("shape", [(2, 2000), (20, 4000), (3000, 2)])
def test_thin_images_need_no_extra_memory(shape, method):
    """If enlarged whole, they would have up to 400 million pixels."""
    image = picture(*shape)
    text = f"resize_small(256, method='{method}')|central_crop(224)"
    chain = transforms.parse(text, (224, 224))
    tracemalloc.start()
    assert chain(image, rng()).shape == (224, 224, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6


def test_bicubic_parts_of_large_images_are_those_of_the_whole(monkeypatch):
    image = picture(30, 41)
    whole = transforms.resize_bicubic(image, 90, 123).astype(int)
    monkeypatch.setattr(resizing, "_WHOLE", 90 * 123 - 1)
    for top, left, height, width in ((0, 0, 90, 123), (7, 50, 30, 73), (60, 0, 30, 1)):
        part = transforms.resize_bicubic(image, 90, 123, (top, left, height, width))
        assert part.shape == (height, width, 3)
        assert abs(part - whole[top : top + height, left : left + width]).max() <= 1


def test_random_crop_places_are_uniform():
    image = np.arange(5 * 4).reshape(5, 4, 1).repeat(3, -1).astype(np.uint8)
    crop = transforms.RandomCrop((3, 2))
    corners = [int(crop(image, rng(i))[0, 0, 0]) for i in range(3000)]
    values, counts = np.unique(corners, return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 2, 4, 5, 6, 8, 9, 10])
    np.testing.assert_allclose(counts / 3000, 1 / 9, atol=0.03)


def test_flip_is_fair_and_exact():
    image = picture(3, 4)
    flipped = [transforms.FlipLeftRight()(image, rng(i)) for i in range(400)]
    turned = [not np.array_equal(f, image) for f in flipped]
    assert all(np.array_equal(f, image[:, ::-1]) for f, t in zip(flipped, turned, strict=True) if t)
    assert 0.4 < np.mean(turned) < 0.6


def test_inception_crop_follows_tensorflows_law():
    generator = rng()
    crop = transforms.InceptionCrop(224)
    windows = np.array([crop.window(400, 600, generator) for _ in range(20_000)])
    top, left, height, width = windows.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 400).all() and (left + width <= 600).all()
    share = height * width / (400 * 600)
    assert share.min() >= 0.05
    # Quantiles of tf.image.sample_distorted_bounding_box on an image of this size.
    quantiles = np.quantile(share, [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(quantiles, [0.080, 0.137, 0.273, 0.456, 0.609], atol=0.02)
    big = height > 100
    aspect = (width / height)[big]
    assert aspect.min() > 0.74 and aspect.max() < 1.34


def test_inception_crop_leaves_a_border_as_tensorflow_does():
    """TensorFlow draws the position below H - h and W - w, excluding these."""
    crop, generator = transforms.InceptionCrop(8), rng()
    windows = np.array([crop.window(10, 12, generator) for _ in range(4000)])
    top, left, height, width = windows.T
    for place, size, full in ((top, height, 10), (left, width, 12)):
        room = full - size
        assert (place[room == 0] == 0).all()
        for some in np.unique(room[room > 0]):
            np.testing.assert_array_equal(np.unique(place[room == some]), np.arange(some))


def test_an_impossible_inception_crop_uses_the_whole_image():
    assert transforms.InceptionCrop(8).window(1000, 10, rng()) == (0, 0, 1000, 10)


def test_sizes_follow_the_image_size_and_keep_their_order():
    chain = transforms.parse("resize_small(40)|random_crop|flip_lr", (24, 32))
    assert chain(picture(50, 70), rng()).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inception_krop(8)", "unknown transform 'inception_krop'. Did you mean 'inception_crop'"),
        ("resize(8, 9, 10)", r"resize\(8, 9, 10\).*Its signature is resize\(size\)"),
        ("inception_crop(8, area=(0, 200))", r"area .*inception_crop\(size, area=\(5, 100\)\)"),
        ("resize(-1)", "not a positive integer"),
        ("resize_small", r"resize_small\(side, method='area'\)"),
        ("resize_small(8, method='cubic')", "method 'cubic' is neither 'area' nor 'bicubic'"),
        ("resize(__import__('os'))", "cannot read"),
        ("resize(8).x", "cannot read"),
        ("resize(9)", "makes 9 x 9 of an image of 17 x 17, but image_size is 8 x 8"),
        ("resize(4)|central_crop(8)", "cannot crop 8 x 8 out of 4 x 4"),
    ],
)
def test_bad_transforms_are_refused(text, message):
    with pytest.raises(errors.BadInput, match=message):
        transforms.parse(text, (8, 8))


@pytest.mark.parametrize("crop", ["central_crop", "random_crop"])
def test_a_crop_that_does_not_fit_all_images_is_refused(crop):
    """The shorter side of a square or a wide image would be smaller than the crop."""
    with pytest.raises(errors.BadInput, match="cannot crop 64 x 32 .* side of 64 or more"):
        transforms.parse(f"resize_small(37)|{crop}", (64, 32))
    chain = transforms.parse(f"resize_small(73)|{crop}", (64, 32))
    for shape in ((30, 90), (90, 30), (50, 50)):
        assert chain(picture(*shape), rng()).shape == (64, 32, 3)


def test_calls_are_read_without_evaluation():
    assert calls.parse("f(1, (2, 3), k='a', b=-1.5)") == ("f", (1, (2, 3)), {"k": "a", "b": -1.5})
    assert calls.split(" a(1) | b ") == ["a(1)", "b"]
