import io
import platform
import struct
import sys

import numpy as np
import pytest
import simplejpeg
import tensorflow_pixels
from PIL import Image, ImageOps

from mixer.data import turbojpeg
from mixer.data.decode import Decoding, Encoded, decode, opened

AS_TENSORFLOW = Decoding(as_tensorflow=True)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)


def test_lossless_formats_round_trip(pixels):
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


def test_cmyk_jpeg_keeps_its_colours():
    rgb = Image.new("RGB", (16, 16), (200, 40, 90))
    got = decode(encoded(rgb.convert("CMYK"), "JPEG", quality=100))
    np.testing.assert_allclose(got.astype(int), np.broadcast_to((200, 40, 90), got.shape), atol=4)


def test_exif_orientation_is_applied_but_not_by_tensorflow(pixels):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    data = encoded(image, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data), np.rot90(pixels, -1))
    np.testing.assert_array_equal(decode(data, AS_TENSORFLOW), pixels)
    data = encoded(image, "JPEG", exif=exif)
    np.testing.assert_array_equal(decode(data), np.rot90(decode(data, AS_TENSORFLOW), -1))


@pytest.mark.parametrize("spoil", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: b"GIF" + d])
def test_bad_files_all_raise_the_same_kind_of_error(pixels, spoil):
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
def test_a_window_equals_a_crop_of_the_image(library, options, mode):
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


def test_the_decoder_is_reported(monkeypatch):
    said = turbojpeg.decoder()
    assert ("by windows" in said) == turbojpeg.available()
    monkeypatch.setattr(turbojpeg, "_found", lambda: None)
    assert turbojpeg.decoder().startswith("libjpeg-turbo, whole (simplejpeg ")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the wheel is for these"
)
def test_the_install_includes_a_library_that_decodes_windows(monkeypatch):
    monkeypatch.setattr(turbojpeg.ctypes.util, "find_library", lambda name: None)
    _, name = turbojpeg._found.__wrapped__()
    assert name.startswith("pylibjxl ")


def test_fast_decoding_shrinks_only_large_enough_windows():
    if not turbojpeg.available():
        pytest.skip("libjpeg-turbo 3 is not installed")
    data = encoded(photo(256, 320), "JPEG", quality=95)
    whole = decode(data).astype(int)
    for top, left, height, width in windows(256, 320, 40):
        part = Encoded(data, Decoding(fast=True)).window(
            top, left, height, width, at_least=(24, 32)
        )
        shrink = round(height / part.shape[0])
        assert part.shape[0] >= min(height, 24) and part.shape[1] >= min(width, 32)
        assert shrink == 8 or height < 48 * shrink or width < 64 * shrink, "not small enough"
        exact = Encoded(data).window(top, left, height, width, at_least=(24, 32))
        np.testing.assert_array_equal(exact, whole[top : top + height, left : left + width])
        assert abs(part.mean() - exact.mean()) < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_implausible_image_sizes_are_refused(kind):
    small = Decoding(max_pixels=1000, max_aspect_ratio=5)
    with pytest.raises(ValueError, match=r"an image of 26 x 39 pixels: more than 1,000"):
        Encoded(encoded(photo(26, 39), kind), small)
    with pytest.raises(ValueError, match=r"an image of 1 x 9 pixels: too small"):
        Encoded(encoded(photo(1, 9), kind), small)
    with pytest.raises(ValueError, match=r"50 x 9 pixels: .*5 times.*input.max_aspect_ratio"):
        Encoded(encoded(photo(50, 9), kind), small)
    assert decode(encoded(photo(45, 9), kind), small).shape == (45, 9, 3)


def test_a_truncated_jpeg_is_reported_whatever_the_window(library):
    data = encoded(photo(64, 64), "JPEG", quality=95)
    for share in (0.3, 0.9, 0.98):
        with pytest.raises(ValueError, match="not a readable image"):
            Encoded(data[: int(share * len(data))]).window(0, 0, 8, 8)


def damaged(originals, count, seed=0):
    """JPEGs that are truncated or have zeros, gaps, flipped bits or other headers."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        data = bytearray(originals[i % len(originals)])
        place, length = int(rng.integers(len(data))), int(rng.integers(1, 300))
        kind = i % 7
        if kind == 0:
            del data[place:]
        elif kind == 1:
            data[place:] = b"\xff\xd9"
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place : place + length] = bytes(len(data[place : place + length]))
        else:
            end = (len(data), 700, 30)[kind - 4]
            for at in rng.integers(0, min(end, len(data)), rng.integers(1, 9)):
                data[at] ^= 1 << rng.integers(8)
        yield bytes(data)


def results(data, decoding):
    """The pixels of a window and of the whole image, or None for an error."""
    found = []
    for look in (lambda file: file.window(1, 2, file.height // 2, file.width // 2), Encoded.pixels):
        try:
            found.append(look(Encoded(data, decoding)))
        except ValueError as error:
            assert "image" in str(error)
            found.append(None)
    return found


@pytest.mark.parametrize("decoding", [Decoding(), AS_TENSORFLOW])
def test_damaged_jpegs_decode_the_same_on_all_paths(monkeypatch, decoding):
    """All give the same error or the same pixels: a window, the whole, without libjpeg-turbo 3."""
    if not turbojpeg.available():
        pytest.skip("libjpeg-turbo 3 is not installed")
    options = [{}, {"progressive": True}, {"subsampling": "4:4:4", "restart_marker_rows": 1}]
    originals = [
        encoded(photo(48, 64, seed), "JPEG", quality=30 + 10 * seed, **options[seed % 3])
        for seed in range(6)
    ]
    with_windows = [(data, *results(data, decoding)) for data in damaged(originals, 1400)]
    monkeypatch.setattr(turbojpeg, "available", lambda: False)
    decoded = 0
    for data, part, whole in with_windows:
        assert (part is None) == (whole is None)
        for before, after in zip((part, whole), results(data, decoding), strict=True):
            np.testing.assert_array_equal(before, after)
        if whole is not None:
            height, width = whole.shape[0] // 2, whole.shape[1] // 2
            np.testing.assert_array_equal(part, whole[1 : 1 + height, 2 : 2 + width])
            decoded += 1
    assert 200 < decoded < 1200


def test_damage_inside_is_an_error_although_libjpeg_continues(library):
    data = encoded(photo(200, 300), "JPEG", quality=90)
    zeros = data[: len(data) // 2] + bytes(400) + data[len(data) // 2 + 400 :]
    for broken in (zeros, data[: len(data) // 2] + b"\xff\xd9"):
        for look in (lambda file: file.window(0, 0, 8, 300), Encoded.pixels):
            with pytest.raises(ValueError, match=r"image, the JPEG is damaged: Corrupt JPEG data"):
                look(Encoded(broken))
        # Decoded as TensorFlow does, the rows above the damage are those of the intact file.
        np.testing.assert_array_equal(decode(broken, AS_TENSORFLOW)[:64], decode(data)[:64])
        # After the first epoch, a file need not be decoded to its end.
        if turbojpeg.available():
            Encoded(broken, to_the_end=False).window(0, 0, 8, 300)
    cmyk = encoded(photo(200, 300).convert("CMYK"), "JPEG", quality=90)
    with pytest.raises(ValueError, match="image, the JPEG is damaged"):
        decode(cmyk[: len(cmyk) // 2] + b"\xff\xd9")


@pytest.mark.parametrize("extra", [bytes(40), b"a remark that nobody needs", b"\xff\xff\0\xff"])
def test_extra_bytes_do_no_harm(library, extra):
    data = encoded(photo(40, 60), "JPEG", quality=90)
    whole = decode(data)
    tables, frame = data.index(b"\xff\xdb"), data.index(b"\xff\xc0")
    for place in (2, tables, frame, len(data) - 2, len(data)):
        file = Encoded(data[:place] + extra + data[place:])
        np.testing.assert_array_equal(file.window(3, 5, 20, 30), whole[3:23, 5:35])
        np.testing.assert_array_equal(file.pixels(), whole)


def test_fields_that_no_pixel_depends_on_may_be_wrong(library):
    """The JFIF version, and the range of coefficients in a scan that has all of them."""
    data = encoded(photo(40, 60), "JPEG", quality=90)
    version, scan = data.index(b"JFIF") + 5, data.index(b"\xff\xda")
    last = scan + 5 + 2 * data[scan + 4] + 1
    for place in (version, last):
        other = data[:place] + b"\0" + data[place + 1 :]
        np.testing.assert_array_equal(decode(other), decode(data))
        np.testing.assert_array_equal(Encoded(other).window(3, 5, 20, 30), decode(data)[3:23, 5:35])


def test_a_file_without_tables_does_not_use_another_files_tables(library):
    """libjpeg would use them, because it keeps them."""
    data = encoded(photo(40, 60), "JPEG", quality=90)
    table = data.index(b"\xff\xdb")
    length = 2 + int.from_bytes(data[table + 2 : table + 4])
    Encoded(data).window(0, 0, 8, 8)
    with pytest.raises(ValueError, match="Quantization table 0x00 was not defined"):
        Encoded(data[:table] + data[table + length :]).window(0, 0, 8, 8)


def test_a_progressive_jpeg_without_its_last_scans(library):
    """This is not damage, but libjpeg's guess of the rest differs at the borders of windows."""
    data = encoded(photo(120, 160), "JPEG", progressive=True, quality=80)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    tables = [data.rfind(b"\xff\xc4", 0, at) for at in scans]
    for before in tables[2:]:
        cut = data[:before] + b"\xff\xd9"
        whole = decode(cut)
        for top, left, height, width in windows(120, 160, 5):
            part = Encoded(cut).window(top, left, height, width)
            np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_too_many_scans_are_refused_before_they_are_decoded():
    data = encoded(photo(40, 60), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last:-2] * 200 + b"\xff\xd9"
    for decoding in (Decoding(), AS_TENSORFLOW):
        with pytest.raises(ValueError, match="more than 100 scans"):
            Encoded(many, decoding)
    few = data[:-2] + data[last:-2] * 20 + b"\xff\xd9"
    assert Encoded(few).height == 40


def test_pixels_are_tensorflows(library):
    """Fused decode and crop, then resize, of two photographs, as made by tensorflow_pixels.py."""
    fixture = np.load(tensorflow_pixels.FIXTURE)
    for name, data in tensorflow_pixels.photographs().items():
        places, pixels = fixture[f"{name}_windows"], fixture[f"{name}_pixels"]
        for window, theirs in zip(places, pixels, strict=True):
            ours = tensorflow_pixels.by_us(data, window, theirs.shape[:2])
            assert np.abs(ours.astype(int) - theirs).mean() < 0.1


def test_a_damaged_jpeg_is_decoded_as_by_tensorflow(library):
    fixture = np.load(tensorflow_pixels.FIXTURE)
    for name, data in tensorflow_pixels.photographs().items():
        broken = tensorflow_pixels.damaged(data)
        theirs = fixture[f"{name}_damaged"]
        np.testing.assert_array_equal(decode(broken, AS_TENSORFLOW)[::16, ::16], theirs)
        with pytest.raises(ValueError, match="image, the JPEG is damaged"):
            Encoded(broken).window(0, 0, 48, 64)


def exif(orientation, order, kind):
    """An EXIF segment; kind 3 is SHORT, 4 is LONG."""
    mark, number = {"little": (b"II", "<"), "big": (b"MM", ">")}[order]
    value = struct.pack(number + ("HH" if kind == 3 else "I"), *(orientation, 0)[: 5 - kind])
    entry = struct.pack(f"{number}HHI", 0x0112, kind, 1) + value
    body = b"Exif\0\0" + mark + struct.pack(f"{number}HIH", 42, 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_found_anywhere_in_the_file(library, order, kind):
    data = encoded(photo(20, 40), "JPEG")
    segment = exif(6, order, kind)
    comment = b"\xff\xfe" + (7).to_bytes(2) + b"hello"
    frame = data.index(b"\xff\xc0")
    upright = np.rot90(decode(data), -1)
    for turned in (
        data[:2] + segment + data[2:],
        data[:2] + comment + segment + data[2:],
        data[:2] + b"\xff\xff" + segment + b"\xff" + data[2:],  # fill bytes
        data[:frame] + segment + data[frame:],  # after the tables
    ):
        np.testing.assert_array_equal(decode(turned), upright)
        np.testing.assert_array_equal(Encoded(turned).window(3, 2, 9, 7), upright[3:12, 2:9])


def test_arrays_are_rgb_or_grey_or_refused(pixels):
    assert opened(pixels, Decoding()) is pixels
    grey = pixels[..., 0]
    for array in (grey, grey[..., None]):
        want = np.repeat(grey[..., None], 3, axis=-1)
        np.testing.assert_array_equal(opened(array, Decoding()), want)
    for wrong in (pixels / np.float32(255), pixels.astype(int), pixels[..., :2], grey[0], "a.png"):
        with pytest.raises(TypeError, match=r"its image is .*: expected uint8 \[H, W, 3\]"):
            opened(wrong, Decoding())
    with pytest.raises(TypeError, match=r"float64 \[6, 9, 3\].*255 \* image"):
        opened(pixels / 255, Decoding())
