"""`mixer.preprocess`: from files and arrays to the input of a model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mixer
from mixer.checkpoint.model_card import ModelCard

CARD = ModelCard({"name": "Mixer-S/16"}, (8, 6), "central_crop", ("a", "b"), "x")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)


def seen(image):
    """uint8 -> float32 in [-1, 1], as the batch format says."""
    return (np.float64(image) / 127.5 - 1)[None]


def test_arrays_and_files_give_the_same_result(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "b.png")
    grey = np.repeat(pixels[..., :1], 3, axis=-1)
    images = mixer.preprocess(tmp_path, CARD)
    assert isinstance(images, np.ndarray) and images.dtype == np.float32
    np.testing.assert_allclose(images, np.concatenate([seen(pixels), seen(grey)]), atol=1e-6)
    for others in (
        f"{tmp_path}/*.png",
        f"{tmp_path}/a.png,{tmp_path}/b.png",
        [tmp_path / "a.png", str(tmp_path / "b.png")],
        (pixels, pixels[..., 0]),
        [pixels, tmp_path / "b.png"],
        np.stack([pixels, grey]),
        jnp.stack([pixels, grey]),
    ):
        np.testing.assert_array_equal(mixer.preprocess(others, CARD), images)
    np.testing.assert_array_equal(mixer.preprocess(pixels, CARD), images[:1])
    np.testing.assert_array_equal(mixer.preprocess(pixels[..., 0], CARD), images[1:])
    np.testing.assert_array_equal(mixer.preprocess([tmp_path / "b.png"] * 2, CARD)[1:], images[1:])


def test_sizes_may_differ(pixels):
    card = dataclasses.replace(CARD, transform="resize")
    images = mixer.preprocess([pixels, np.full((30, 9), 255, np.uint8)], card)
    np.testing.assert_allclose(images[:1], seen(pixels), atol=1e-6)
    np.testing.assert_array_equal(images[1], 1)


def test_exif_rotates_a_photo_unless_the_model_ignores_it(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    large = Image.fromarray(pixels).resize((24, 32))
    large.save(tmp_path / "plain.jpg", quality=95)
    large.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    card = dataclasses.replace(CARD, image_size=(32, 24))
    plain = mixer.preprocess(tmp_path / "plain.jpg", card)
    across = dataclasses.replace(CARD, image_size=(24, 32))
    turned = mixer.preprocess(tmp_path / "turned.jpg", across)
    np.testing.assert_array_equal(turned[0], np.rot90(plain[0], -1))
    ignored = dataclasses.replace(card, decoding="tensorflow")
    np.testing.assert_array_equal(mixer.preprocess(tmp_path / "turned.jpg", ignored), plain)


def test_pillow_images_are_seen_like_their_files(pixels, tmp_path):
    photo = Image.fromarray(pixels)
    clear = photo.convert("RGBA")
    clear.putpixel((2, 3), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    kinds = {"RGB": photo, "RGBA": clear, "LA": clear.convert("LA"), "P": photo.quantize(7)}
    kinds |= {"L": photo.convert("L"), "1": photo.convert("1")}
    for mode, image in kinds.items():
        image.save(tmp_path / f"{mode}.png", exif=exif)
    files = sorted(tmp_path.iterdir())
    for card in (CARD, dataclasses.replace(CARD, decoding="tensorflow")):
        opened = [Image.open(file) for file in files]
        images = mixer.preprocess(opened, card)
        np.testing.assert_array_equal(images, mixer.preprocess(files, card))
        np.testing.assert_array_equal(mixer.preprocess(opened[0], card), images[:1])
    np.testing.assert_allclose(mixer.preprocess(photo, CARD), seen(pixels), atol=1e-6)
    with pytest.raises(TypeError, match="card is a str: expected the third value of mixer.load"):
        mixer.preprocess(photo, "Mixer-Ti/4")


def test_other_files_in_a_folder_are_named(pixels, tmp_path, capsys):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    mixer.preprocess(tmp_path, CARD)
    assert capsys.readouterr().out == "1 file; left out: 1 .txt\n"


ONE = np.zeros((8, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("message", "images"),
    [
        (r"images: its image is float64 \[8, 6, 3\].*\(255 \* image\).round\(\)", ONE / 255),
        (r"images\[0\]: its image is float32 \[8, 6, 3\].*255 \*", np.float32([ONE, ONE])),
        (
            r"images\[1\]: its image is int64 .* are in 0 to 255: .*astype\('uint8'",
            [ONE, np.int64(ONE)],
        ),
        (r"its image is int64 .* values are -4 to -4: rescale them to 0 to 255", ONE - np.int64(4)),
        (r"its image is uint16 .* values are 300 to 300", np.full((8, 6, 3), 300, np.uint16)),
        (r"uint8 \[3, 8, 6\].* last: pass image.transpose\(1, 2, 0\)", ONE.transpose(2, 0, 1)),
        (r"images\[0\].* \[3, 8, 6\].* channels come last", np.zeros((2, 3, 8, 6), np.uint8)),
        (r"uint8 \[8, 6, 4\].*fourth channel.* image\[..., :3\]", np.zeros((8, 6, 4), np.uint8)),
        (r"its image is bool \[8, 6\]: expected uint8", np.zeros((8, 6), bool)),
        (r"its image is uint8 \[3\]: expected", ONE[0, 0]),
        (r"images: a Pillow image of mode 'I;16'.* pass the file", Image.new("I;16", (6, 8))),
        (r"images: its image is a int", 3),
        (r"images: its image is a NoneType", None),
        (r"images: its image is uint8 \[0, 6, 3\].* has no pixels", ONE[:0]),
        (r"images: cannot crop 8 x 6 out of 7 x 6: first resize", ONE[1:]),
        ("images are empty: expected one or more", []),
        ("images are empty: expected one or more", np.zeros((0, 8, 6, 3), np.uint8)),
        ("images: no file 'nothing/a.png'", "nothing/a.png"),
        ("images='' names no file", ""),
        ("^nothing/a.png cannot be read: No such file or directory$", ["nothing/a.png"]),
    ],
)
def test_bad_images_are_refused(message, images):
    with pytest.raises(mixer.BadInput, match=f"(?i){message}"):
        mixer.preprocess(images, CARD)


def test_files_that_are_not_images_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    for images in (tmp_path / "a.png", [tmp_path / "a.png"]):
        with pytest.raises(mixer.BadInput, match=rf"^{tmp_path}/a.png: not a readable image"):
            mixer.preprocess(images, CARD)
