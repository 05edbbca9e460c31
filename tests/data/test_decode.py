import io

import numpy as np
import pytest
import simplejpeg
import tensorflow_pixels
from PIL import Image, ImageOps

from mixer.data import decode as decode_lib
from mixer.data import turbojpeg
from mixer.data.decode import Encoded, decode


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)


def test_lossless_formats_come_back_as_they_are(pixels):
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(decode(encoded(image, "PNG")), pixels)
    np.testing.assert_array_equal(decode(encoded(image, "WEBP", lossless=True)), pixels)
    np.testing.assert_array_equal(decode(encoded(image, "BMP")), pixels)


def test_grey_and_sixteen_bits_become_rgb(pixels):
    grey = pixels[..., 0]
    want = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey), "PNG")), want)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(encoded(deep, "PNG")), want)


def test_transparency_is_dropped(pixels):
    alpha = np.concatenate([pixels, np.full((6, 9, 1), 7, np.uint8)], axis=-1)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(alpha), "PNG")), pixels)


def test_cmyk_jpeg_keeps_its_colours():
    rgb = Image.new("RGB", (16, 16), (200, 40, 90))
    got = decode(encoded(rgb.convert("CMYK"), "JPEG", quality=100))
    np.testing.assert_allclose(got.astype(int), np.broadcast_to((200, 40, 90), got.shape), atol=4)


def test_exif_orientation_is_applied(pixels):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    got = decode(encoded(image, "PNG", exif=exif))
    np.testing.assert_array_equal(got, np.rot90(pixels, -1))


@pytest.mark.parametrize("spoil", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: b"GIF" + d])
def test_bad_files_are_one_kind_of_error(pixels, spoil):
    data = encoded(Image.fromarray(pixels.repeat(30, 0).repeat(30, 1)), "JPEG")
    with pytest.raises(ValueError, match="not a readable image"):
        decode(spoil(data))


def photo(height, width, seed=0):
    """Smooth colours with some noise: a JPEG of it has coefficients of all frequencies."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = smooth + rng.integers(-20, 21, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def windows(height, width, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        tall, wide = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        yield int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1)), tall, wide


@pytest.fixture(params=["window", "whole"])
def library(request, monkeypatch):
    """With libjpeg-turbo 3, which decodes windows, and without it."""
    if request.param == "whole":
        monkeypatch.setattr(turbojpeg, "available", lambda: False)
    elif not turbojpeg.available():
        pytest.skip("libjpeg-turbo 3 is not installed")


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:2:0"},
        {"progressive": True},
        {"quality": 20},
        {"restart_marker_rows": 1},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_window_is_cut_out_of_the_image(library, options, mode):
    """The same pixels at every border of every window; about those of Pillow's accurate DCT."""
    data = encoded(photo(61, 83).convert(mode), "JPEG", **options)
    whole = decode(data)
    np.testing.assert_array_equal(whole, simplejpeg.decode_jpeg(data, fastdct=True))
    by_pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(whole.astype(int) - by_pillow).mean() < 2
    for top, left, height, width in windows(61, 83, 60):
        got = Encoded(data).window(top, left, height, width)
        np.testing.assert_array_equal(got, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("orientation", range(10))  # 1 ... 8 have a meaning
def test_windows_of_turned_jpegs(library, orientation):
    image = photo(40, 70)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, "JPEG", exif=exif)
    by_pillow = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    file, whole = Encoded(data), decode(data)
    assert (file.height, file.width) == whole.shape[:2] == by_pillow.shape[:2]
    assert np.abs(whole.astype(int) - by_pillow).mean() < 2
    for top, left, height, width in windows(file.height, file.width, 20):
        got = Encoded(data).window(top, left, height, width)
        np.testing.assert_array_equal(got, whole[top : top + height, left : left + width])


def test_fast_decoding_shrinks_only_what_is_large_enough():
    if not turbojpeg.available():
        pytest.skip("libjpeg-turbo 3 is not installed")
    data = encoded(photo(256, 320), "JPEG", quality=95)
    whole = decode(data).astype(int)
    for top, left, height, width in windows(256, 320, 40):
        part = Encoded(data, fast=True).window(top, left, height, width, at_least=(24, 32))
        shrink = round(height / part.shape[0])
        assert part.shape[0] >= min(height, 24) and part.shape[1] >= min(width, 32)
        assert shrink == 8 or height < 48 * shrink or width < 64 * shrink, "not small enough"
        exact = Encoded(data).window(top, left, height, width, at_least=(24, 32))
        np.testing.assert_array_equal(exact, whole[top : top + height, left : left + width])
        assert abs(part.mean() - exact.mean()) < 6


def test_sizes_that_are_no_picture_are_refused(monkeypatch):
    monkeypatch.setattr(decode_lib, "MAX_PIXELS", 1000)
    for kind in ("JPEG", "PNG"):
        with pytest.raises(ValueError, match=r"an image of 26 x 39 pixels: more than 1,000"):
            Encoded(encoded(photo(26, 39), kind))
        with pytest.raises(ValueError, match=r"an image of 1 x 9 pixels: too small"):
            Encoded(encoded(photo(1, 9), kind))


def test_a_jpeg_cut_short_is_reported_whatever_the_window(library):
    data = encoded(photo(64, 64), "JPEG", quality=95)
    for share in (0.3, 0.9, 0.98):
        with pytest.raises(ValueError, match="not a readable image"):
            Encoded(data[: int(share * len(data))]).window(0, 0, 8, 8)


def test_damaged_jpegs_are_decoded_or_reported(library):
    """2,000 of them: cut, with flipped bits, or with other headers."""
    rng = np.random.default_rng(0)
    originals = [
        encoded(photo(48, 64, seed), "JPEG", progressive=seed % 3 == 0, quality=30 + 10 * seed)
        for seed in range(6)
    ]
    decoded = reported = 0
    for i in range(2000):
        data = bytearray(originals[i % 6])
        kind = i % 4
        if kind == 0:
            data = data[: rng.integers(len(data))]
        else:
            end = len(data) if kind == 1 else 700 if kind == 2 else 30
            for place in rng.integers(0, min(end, len(data)), rng.integers(1, 9)):
                data[place] ^= 1 << rng.integers(8)
        try:
            file = Encoded(bytes(data))
            height, width = max(file.height // 2, 1), max(file.width // 2, 1)
            part = file.window(file.height - height, 0, height, width)
            assert part.shape == (height, width, 3) and part.dtype == np.uint8
            decoded += 1
        except ValueError as error:
            assert "image" in str(error)
            reported += 1
    assert decoded > 200 and reported > 200


def test_pixels_are_tensorflows(library):
    """Fused decode and crop, then resize, of two photographs: tensorflow_pixels.py made them."""
    fixture = np.load(tensorflow_pixels.FIXTURE)
    for name, data in tensorflow_pixels.photographs().items():
        places, pixels = fixture[f"{name}_windows"], fixture[f"{name}_pixels"]
        for window, theirs in zip(places, pixels, strict=True):
            ours = tensorflow_pixels.by_us(data, window, theirs.shape[:2])
            assert np.abs(ours.astype(int) - theirs).mean() < 0.1


def test_orientation_behind_a_comment():
    image = photo(20, 40)
    exif = image.getexif()
    exif[0x0112] = 6
    data = encoded(image, "JPEG", exif=exif)
    comment = b"\xff\xfe" + (7).to_bytes(2) + b"hello"
    assert decode(data[:2] + comment + data[2:]).shape == (40, 20, 3)
