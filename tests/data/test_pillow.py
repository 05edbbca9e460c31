"""Decoding files of every format, built chunk by chunk if Pillow cannot write them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mixer.data.decode import Decoding, decode
from mixer.data.pillow import FORMATS, SUFFIXES

AS_TENSORFLOW = Decoding(as_tensorflow=True)
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
GREY = RGB[..., 0]


def encoded(image, kind, **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def png(values, bits, colour_type, *chunks):
    """A PNG of values [H, W] or [H, W, C] below 2**bits, with more chunks before the pixels."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    rows = [row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in values]
    if bits < 8:
        places = np.arange(8 - bits, -1, -bits)
        packed = values.reshape(len(values), -1, 8 // bits).astype(np.uint8) << places
        rows = [row.astype(np.uint8).tobytes() for row in packed.sum(-1)]
    size = struct.pack(">IIBBBBB", *values.shape[1::-1], bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", size), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def three(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def on_white(pixels, alpha):
    share = alpha[..., None] / 255
    return np.floor(pixels * share + 255 * (1 - share) + 0.5)


ALPHA = np.tile(np.array([0, 255, 0, 255, 1, 128, 254, 255], np.uint8), (6, 1))
RGBA, LA = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])


# For images in which one grey or one colour is transparent.
KEY, COLOUR = int(GREY[2, 3]), RGB[2, 3].astype(int)
BUT_KEY = np.where(GREY == KEY, 0, 255).astype(np.uint8)
BUT_COLOUR = np.where((RGB == COLOUR).all(-1), 0, 255).astype(np.uint8)
GREY_16, RGB_16, RGBA_16 = (image.astype(np.uint16) * 257 for image in (GREY, RGB, RGBA))
FOUR, PALETTE = GREY >> 6, RGB[0, :4]


def key(*values):
    return b"tRNS", np.array(values).astype(">u2").tobytes()


@pytest.mark.parametrize(
    ("data", "pixels", "alpha"),
    [
        (encoded(RGBA, "PNG"), RGB, ALPHA),
        (encoded(RGBA, "WEBP", lossless=True, exact=True), RGB, ALPHA),
        (encoded(RGBA, "TIFF"), RGB, ALPHA),
        (encoded(LA, "PNG"), three(GREY), ALPHA),
        (png(RGBA_16, 16, 6), RGB, ALPHA),
        (png(GREY, 8, 0, key(KEY)), three(GREY), BUT_KEY),
        (png(GREY_16, 16, 0, key(KEY * 257)), three(GREY), BUT_KEY),
        (png(FOUR, 2, 0, key(2)), three(FOUR * 85), np.uint8([255, 255, 0, 255])[FOUR]),
        (png(RGB, 8, 2, key(*COLOUR)), RGB, BUT_COLOUR),
        (png(RGB_16, 16, 2, key(*COLOUR * 257)), RGB, BUT_COLOUR),
        (
            png(FOUR, 2, 3, (b"PLTE", PALETTE.tobytes()), (b"tRNS", bytes([255, 0, 9]))),
            PALETTE[FOUR],
            np.uint8([255, 0, 9, 255])[FOUR],
        ),
    ],
)
def test_transparent_pixels_are_laid_over_white_or_kept_as_stored(data, pixels, alpha):
    np.testing.assert_array_equal(decode(data), on_white(pixels, alpha))
    np.testing.assert_array_equal(decode(data, AS_TENSORFLOW), pixels)


def test_opaque_pixels_are_the_same_either_way():
    """As in CLEVR, whose PNGs have four channels."""
    data = encoded(np.dstack([RGB, np.full_like(GREY, 255)]), "PNG")
    np.testing.assert_array_equal(decode(data), RGB)
    np.testing.assert_array_equal(decode(data, AS_TENSORFLOW), RGB)


TWELVE = GREY.astype(np.uint16) * 16


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (png(GREY_16, 16, 0), three(GREY)),
        (png(RGB_16, 16, 2), RGB),
        (png(TWELVE, 16, 0, (b"sBIT", b"\x0c")), three(TWELVE >> 8)),  # dark, as declared
        (png(GREY >> 7, 1, 0), three((GREY >> 7) * np.uint8(255))),
        (png(GREY >> 4, 4, 0), three((GREY >> 4) * 17)),
        (encoded(GREY_16, "TIFF"), three(GREY)),
        (encoded(GREY_16, "TIFF", tiffinfo={262: 0}), three(255 - GREY)),
        (encoded(GREY_16, "PPM"), three(GREY)),
        (b"P5 8 6 #\n# 4 bits\n15\n" + (GREY >> 4).tobytes(), three((GREY >> 4) * 17)),
        (
            b"P5 8 6 4095\n" + (GREY.astype(int) // 17 * 273).astype(">u2").tobytes(),
            three(GREY // 17 * 17),
        ),
        (encoded(RGB, "PPM"), RGB),
        (encoded(RGB, "TIFF", compression="tiff_lzw", tiffinfo={274: 6}), np.rot90(RGB, -1)),
    ],
)
def test_values_are_scaled_by_the_files_bit_depth(data, want):
    np.testing.assert_array_equal(decode(data), want)


@pytest.mark.parametrize("as_tensorflow", [False, True])
def test_16_bits_are_truncated_alike_in_grey_and_colour(as_tensorflow):
    """PNGs are truncated to the high byte, as in TensorFlow; PPMs are rounded."""
    grey = np.tile(np.array([0, 1, 255, 256, 32767, 32768, 65279, 65280, 65535]), (2, 1))
    size = b"\n9 2 65535\n"
    rounded = (grey / 257 + 0.5).astype(np.uint8)
    for pair, want in (
        ((png(grey, 16, 0), png(three(grey), 16, 2)), grey >> 8),
        (
            (
                b"P5" + size + grey.astype(">u2").tobytes(),
                b"P6" + size + three(grey).astype(">u2").tobytes(),
            ),
            rounded,
        ),
    ):
        for data in pair:
            found = decode(data, Decoding(as_tensorflow=as_tensorflow))
            np.testing.assert_array_equal(found, three(want))


def test_a_transparent_colour_of_16_bits_is_found():
    """Even if its two bytes differ."""
    values = np.tile(np.array([0x80FF, 0x4000, 0x1234]), (2, 1))
    for value in (0x80FF, 0x4000):
        want = three(np.where(values == value, 255, values >> 8))
        found = decode(png(three(values), 16, 2, key(value, value, value)))
        np.testing.assert_array_equal(found, want)
        np.testing.assert_array_equal(decode(png(values, 16, 0, key(value))), want)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(GREY.astype(np.int32), "TIFF"), "a TIFF of 32-bit or floating-point values"),
        (encoded(GREY.astype(np.float32) / 255, "TIFF"), "TIFF of 32-bit or floating.*8 bits"),
        (encoded(GREY, "TIFF", tiffinfo={339: 3}), "TIFF whose channels or bits .*arrays:PATH"),
        (b"Pf\n8 6\n-1.0\n" + GREY.astype("<f4").tobytes(), "PPM of 32-bit or floating-point"),
        (png(TWELVE, 16, 0), "16-bit image of values up to a sixteenth of white.*8 bits"),
        (png(RGB.astype(int) * 16, 16, 2), "up to a sixteenth of white"),
        (encoded(TWELVE, "TIFF"), "up to a sixteenth of white"),
        (encoded(TWELVE, "PPM"), "up to a sixteenth of white"),
        (b"P6 8 6 65535\n" + (RGB.astype(int) * 16).astype(">u2").tobytes(), "sixteenth of white"),
    ],
)
def test_values_without_a_white_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data)


def test_the_first_image_of_an_animation_is_decoded():
    images = [Image.fromarray(pixels).quantize(48) for pixels in (RGB, 255 - RGB)]
    first = np.asarray(images[0].convert("RGB"))
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = encoded(images[0], kind, save_all=True, append_images=images[1:], **options)
        np.testing.assert_array_equal(decode(data), first)


@pytest.mark.parametrize("orientation", [6, 99])
def test_long_texts_and_profiles_of_a_png_do_no_harm(orientation):
    """Pillow refuses what inflates to more than a megabyte; EXIF is still read."""
    info = PngImagePlugin.PngInfo()
    info.add_text("notes", "x" * 2_000_000, zip=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, "PNG", pnginfo=info, icc_profile=bytes(2_000_000), exif=exif)
    np.testing.assert_array_equal(decode(data), np.rot90(RGB, -1 if orientation == 6 else 0))
    damaged = bytearray(data)
    damaged[-30] ^= 1
    with pytest.raises(ValueError, match="not a readable image"):
        decode(bytes(damaged))


def test_other_formats_are_not_opened(monkeypatch):
    """Even if Pillow supports them; its PostScript reader starts a program."""
    opened = []
    monkeypatch.setattr(Image, "OPEN", {k: v for k, v in Image.OPEN.items() if k in FORMATS})
    monkeypatch.setattr(Image, "init", lambda: opened.append("all"))
    others = [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", b"<html>", b""]
    others += [encoded(RGB, kind) for kind in ("PCX", "TGA", "ICO", "PDF")]
    for data in others:
        with pytest.raises(ValueError, match="like none of JPEG, PNG,.*TIFF, PPM|is empty"):
            decode(data)
    with pytest.raises(ValueError, match="it is HEIC, which is not read: convert it to JPEG or"):
        decode(b"\0\0\0\x18ftypheic" + bytes(64))


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "JPEG"])
def test_every_format_is_read_and_nothing_of_half_a_file(kind):
    data = encoded(Image.fromarray(RGB.repeat(20, 0).repeat(20, 1)), kind)
    assert decode(data).shape == (120, 160, 3)
    with pytest.raises(ValueError, match="not a readable image"):
        decode(data[: len(data) // 2])


def test_the_endings_are_lower_case_and_each_has_a_format():
    assert {".jfif", ".jpe", ".pgm", ".webp", ".tif"} < set(SUFFIXES)
    for ending in SUFFIXES:
        assert Image.registered_extensions()[ending] in FORMATS and ending == ending.lower()


def test_an_image_too_large_is_refused_before_it_is_decoded():
    """Only our limit applies: Pillow would also warn about this size."""
    data = bytearray(encoded(GREY, "BMP"))
    data[18:26] = struct.pack("<ii", 10_000, 9_000)
    with pytest.raises(ValueError, match="9,000 x 10,000 pixels: more than 67,108,864"):
        decode(bytes(data))
    with pytest.raises(ValueError, match="not a readable image .* truncated"):
        decode(bytes(data), Decoding(max_pixels=10**8))
