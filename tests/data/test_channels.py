"""Images of other channels than three."""

import io

import numpy as np
import pytest
from PIL import Image

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import decode, pipeline, sources, transforms
from mixer.data.grey import grey
from mixer.data.order import Full

SIZE = (6, 8)


def colours(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def test_grey_is_pillows():
    every = colours(64, 64)
    expected = np.asarray(Image.fromarray(every).convert("L"))
    np.testing.assert_array_equal(grey(every)[:, :, 0], expected)
    equal = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(grey(equal.repeat(3, axis=2)), equal)


@pytest.mark.parametrize("channels", [2, 4, 5, 9])
@pytest.mark.parametrize(
    "text",
    [
        "resize",
        "resize_small(11)|random_crop|flip_lr",
        "resize_small(9, 'bicubic')|central_crop",
        "inception_crop|flip_lr",
        "resize_small(40)|central_crop",
    ],
)
def test_geometric_transforms_do_to_each_channel_what_they_do_to_rgb(text, channels):
    image = np.random.default_rng(1).integers(0, 256, (17, 20, channels)).astype(np.uint8)
    made = transforms.parse(text, SIZE, channels)(image, np.random.default_rng(2))
    assert made.shape == (*SIZE, channels) and made.dtype == np.uint8
    rgb = transforms.parse(text, SIZE)
    for channel in range(channels):
        alone = np.ascontiguousarray(image[:, :, [channel] * 3])
        expected = rgb(alone, np.random.default_rng(2))[:, :, 0]
        np.testing.assert_array_equal(made[:, :, channel], expected)


@pytest.mark.parametrize("text", ["resize|randaug(2, 10)", "resize|color_jitter(0.4)"])
def test_transforms_of_colours_are_for_rgb_and_grey(text):
    with pytest.raises(errors.BadInput, match="is for RGB and grey, not for 5 channels"):
        transforms.parse(text, SIZE, 5)
    made = transforms.parse(text, SIZE, 1)(colours(20, 20), np.random.default_rng(0))
    assert made.shape == (*SIZE, 1)


def rows_of(source, channels, order=None):
    return pipeline.Rows(
        source=source,
        transform=transforms.parse("resize", SIZE, channels),
        order=order,
        seed=0,
        batch_size=4,
        rows=range(4),
        padding=batch_lib.padding(SIZE, channels=channels),
    )


@pytest.mark.parametrize("stored, channels", [(1, 1), (3, 1), (1, 3), (3, 3), (5, 5)])
def test_batches_have_the_models_channels(stored, channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, *SIZE, stored)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(7))
    source = sources.open_source(f"arrays:{tmp_path}/a.npz", "train")
    for order in (None, Full(7, 0)):
        rows = rows_of(source, channels, order)
        (batch,) = pipeline.batches(rows, start=0, stop=1, threads=1, workers=0)
        assert batch["image"].shape == (4, *SIZE, channels)
        for image, label in zip(batch["image"], batch["label"], strict=True):
            own = images[label]
            expected = {
                True: own,
                channels == 3: own.repeat(3 // stored or 1, axis=2),
                channels == 1 and stored == 3: grey(own) if stored == 3 else own,
            }[True]
            np.testing.assert_array_equal(image, expected)


def test_what_has_other_channels_is_refused_with_the_fix(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.full((9, 9, 4), 200, np.uint8)).save(file, "PNG")
    for image, channels, message in (
        (file.getvalue(), 4, "an image file has 1 or 3 channels here, but .*in_chans is 4"),
        (np.zeros((9, 9, 3), np.uint8), 4, r"uint8 \[9, 9, 3\]: expected uint8 \[H, W, 4\]"),
        (np.zeros((9, 9, 4), np.uint8), 3, "transparency.*or set config.model.in_chans=4"),
        (np.zeros((9, 9, 7), np.uint8), 1, "set config.model.in_chans=7"),
    ):
        with pytest.raises(TypeError, match=message):
            decode.opened(image, decode.UPRIGHT, channels)
