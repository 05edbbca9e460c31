"""The recorded draws of a row are what was drawn, and recording them changes nothing."""

import collections
import io

import numpy as np
import pytest
from PIL import Image

from mixer import batch as batch_lib
from mixer.data import drawn, order, pipeline, transforms


def placed(height, width):
    """An image whose red value is the row and whose green value is the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    return image


def traced(chain, image, seed):
    trace, rng = drawn.Trace((0, 0, *image.shape[:2])), np.random.default_rng(seed)
    made = chain(image, rng, trace.apply)
    other = np.random.default_rng(seed)
    np.testing.assert_array_equal(made, chain(image, other))
    assert rng.bit_generator.state == other.bit_generator.state
    return made, trace


@pytest.mark.parametrize("seed", range(6))
def test_windows_within_windows_on_either_side_of_a_flip(seed):
    chain = transforms.parse("random_crop((40, 30))|flip_lr|random_crop((20, 10))", (20, 10))
    made, trace = traced(chain, placed(100, 90), seed)
    top, left, height, width = trace.window
    assert (height, width) == (20, 10)
    assert made[0, 0, 0] == top and made[-1, 0, 0] == top + 19
    columns = made[0, ::-1, 1] if trace.flipped else made[0, :, 1]
    np.testing.assert_array_equal(columns, np.arange(left, left + 10))


@pytest.mark.parametrize("seed", range(3))
def test_a_window_of_a_resized_image_is_one_of_the_source(seed):
    text = "resize_small(120)|random_crop((90, 80))|flip_lr|resize((45, 40))"
    made, trace = traced(transforms.parse(text, (45, 40)), placed(60, 80), seed)
    top, left, height, width = trace.window
    assert (height, width) == (45, 40)
    assert made[..., 0].mean() == pytest.approx(top + height / 2 - 0.5, abs=1)
    assert made[..., 1].mean() == pytest.approx(left + width / 2 - 0.5, abs=1)


def test_recording_augmentation_and_crops_changes_nothing():
    chain = transforms.parse("inception_crop|flip_lr|randaug(3, 15)", (24, 24))
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    traces = [traced(chain, image, seed)[1] for seed in range(40)]
    assert all(len(trace.operations) == 3 for trace in traces)
    texts = " ".join(text for trace in traces for text in trace.operations)
    assert "rotate(degrees=45.0)" in texts and "rotate(degrees=-45.0)" in texts
    assert 8 < sum(trace.flipped for trace in traces) < 32


def test_a_transform_that_draws_without_reporting_is_named():
    def noise(image, rng):
        return image + rng.integers(0, 2, image.shape).astype(np.uint8)

    def still(image, rng):
        return image

    _, trace = traced(transforms.Chain((still, noise)), placed(9, 9), 0)
    assert trace.operations == ["noise(?)"]


class Source:
    """Thirty PNG files, some of which are not images."""

    name, split, classes = "made", "train", ("a", "b")
    damaged = (0, 4, 5, 6, 29)

    def __len__(self):
        return 30

    def __getitem__(self, index):
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(file, "PNG")
        data = b"none" if index in self.damaged else file.getvalue()
        return {"image": data, "label": index % 2}

    def where(self, index):
        return f"example {index}"


@pytest.mark.parametrize("text", ["full", "blocks(4, 2, lanes=2)"])
def test_the_replacements_of_unreadable_examples(text):
    rows = pipeline.Rows(
        source=Source(),
        transform=transforms.parse("random_crop(6)|flip_lr", (6, 6)),
        order=order.parse(text, examples=30, seed=1, batch_size=10),
        seed=1,
        batch_size=10,
        rows=range(10),
        padding=batch_lib.padding((6, 6)),
        skip_bad=True,
    )
    there = collections.defaultdict(list)
    for number in range(100):
        redrawn, row = drawn.redraw(rows, number), rows(number)
        np.testing.assert_array_equal(redrawn.image, row["image"])
        assert redrawn.count == number and redrawn.meant == rows.order[number]
        assert (redrawn.image == redrawn.index).all() and redrawn.label == redrawn.index % 2
        assert (redrawn.meant != redrawn.index) == (redrawn.meant in Source.damaged)
        there[redrawn.index].append(number)
    found = drawn.when_seen(rows, range(30), 100, lambda count: None)
    assert found == {index: there[index] for index in range(30)}
    assert not found[5] and len(found[7]) > 9
