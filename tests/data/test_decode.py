import io

import numpy as np
import pytest
from PIL import Image

from mixer.data.decode import decode


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
