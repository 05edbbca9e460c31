"""Pareto frontiers, the order of hidden units, and the contents of figures."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from mixer.paper import charts, series, style, units
from mixer.paper.charts import Point


def dominates(one, other):
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@pytest.mark.parametrize("seed", range(20))
def test_no_point_dominates_the_frontier(seed):
    rng = np.random.default_rng(seed)
    points = [
        tuple(p) for p in rng.integers(0, 8, (30, 2)).tolist()
    ]  # with ties, and twice the same
    found = charts.frontier(*zip(*points, strict=True))
    best = [points[i] for i in found]
    assert not any(dominates(p, b) for p in points for b in best)
    assert all(any(dominates(b, p) for b in best) for i, p in enumerate(points) if i not in found)
    assert [cost for cost, _ in best] == sorted(cost for cost, _ in best)
    order = rng.permutation(len(points))
    shuffled = [points[i] for i in order]
    again = charts.frontier(*zip(*shuffled, strict=True))
    assert {int(order[i]) for i in again} == set(found)


def wave(down, right, phase=0.0, shape=(8, 12)):
    """A wave of whole periods on a grid of patches that is not square."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.cos(2 * np.pi * (down * y / shape[0] + right * x / shape[1]) + phase)


def test_the_frequency_of_a_wave():
    waves = [wave(0, 0), wave(1, 0), wave(0, 1), wave(2, 3), wave(4, 6)]
    found = units.frequency(np.stack(waves))
    expected = [0, 1 / 8, 1 / 12, np.hypot(2 / 8, 3 / 12), np.hypot(1 / 2, 1 / 2)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert units.frequency(np.zeros((1, 3, 4)))[0] == 0


@pytest.mark.parametrize("seed", range(5))
def test_units_are_ordered_by_frequency_with_their_opposites(seed):
    rng = np.random.default_rng(seed)
    rising = [wave(0, 1, 0.3), wave(1, 0, 0.2), wave(1, 2, 0.1), wave(2, 3, 0.5), wave(3, 5, 0.4)]
    both = [scale * u for u in rising for scale in (rng.uniform(0.1, 3), -rng.uniform(0.1, 3))]
    mixed = rng.permutation(len(both))
    order = mixed[units.paired(np.stack(both)[mixed])]
    assert [i // 2 for i in order] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("count", (1, 2, 7, 40))
def test_the_order_is_a_permutation(count):
    found = units.paired(np.random.default_rng(0).normal(size=(count, 4, 4)))
    assert sorted(found) == list(range(count))


def test_a_unit_is_followed_by_the_most_opposite_one():
    first, far, near = wave(1, 0), wave(1, 0, 0.5), wave(1, 0, 2.5)
    assert units.paired(np.stack([first, far, near]))[:2].tolist() == [0, 2]


def test_weights_of_a_hidden_unit_are_arranged_like_the_patches():
    kernel = np.arange(6 * 5).reshape(6, 5)  # [S, D_S]
    images = units.as_images(kernel, (2, 3))
    assert images.shape == (5, 2, 3)
    np.testing.assert_array_equal(images[4], [[4, 9, 14], [19, 24, 29]])


def test_zero_weights_are_mid_grey_and_the_largest_black_or_white():
    found = units.scaled(np.asarray([[[0.0, -2.0], [1.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]]]))
    np.testing.assert_array_equal(found, [[[0.5, 0.0], [0.75, 0.625]], [[0.5, 0.5], [0.5, 0.5]]])


def test_a_sheet_shows_every_image_on_white():
    images = np.stack([np.full((2, 3), v) for v in (0.1, 0.2, 0.3)])
    sheet = units.tiled(images, 2)
    assert sheet.shape == (5, 7)
    np.testing.assert_array_equal(sheet[:2, 4:], images[1])
    np.testing.assert_array_equal(sheet[3:, :3], images[2])
    assert (sheet[2] == 1).all() and (sheet[:, 3] == 1).all() and (sheet[3:, 4:] == 1).all()


def pixels_of(figure):
    """The pixels of the PNG, which is as large as the figure and not blank; the SVG is XML."""
    files = {ending: io.BytesIO() for ending in ("png", "svg")}
    for ending, file in files.items():
        style.save(figure, file, ending)
    again = io.BytesIO()
    style.save(figure, again, "svg")
    assert again.getvalue() == files["svg"].getvalue()
    assert ElementTree.fromstring(files["svg"].getvalue()).tag.endswith("svg")
    image = Image.open(files["png"])
    assert image.size == tuple(int(300 * side) for side in figure.get_size_inches())
    pixels = np.asarray(image.convert("RGB"))
    assert pixels.std() > 5
    return pixels


def has(pixels, colour):
    return (pixels == np.frombuffer(bytes.fromhex(colour), np.uint8)).all(axis=-1).sum() > 20


def test_our_points_are_drawn_beside_the_papers():
    paper = [
        Point(0.01, 76.4, "Mixer-B/16", "Mixer", "imagenet2012"),
        Point(0.2, 84.6, "ViT-B/16", "ViT", "imagenet21k"),
        Point(1.8, 84.7, "BiT-R200x3", "BiT", "jft"),
    ]
    ours = Point(0.1, 79.0, "Mixer-B/16", "Mixer", "jft", "TPU v5e")
    figure = charts.accuracy_against_cost([*paper, ours], "Cost, days", more_is_better=False)
    (axes,) = figure.axes
    fills = {line.get_markerfacecolor() for line in axes.lines if line.get_linestyle() == "None"}
    assert fills == {"white", "#D55E00"}
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(line.get_xdata(), [0.01, 0.2, 1.8])  # ours is no part of it
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "ours, on TPU v5e" in legend
    pixels = pixels_of(figure)
    assert all(has(pixels, colour) for colour in ("D55E00", "0072B2", "009E73"))


def test_labels_do_not_overlap():
    points = [Point(1 + i / 50, 80 + i / 10, f"Mixer-{i}", "Mixer", "jft") for i in range(5)]
    figure = charts.accuracy_against_cost(points, "x", more_is_better=True)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i])
        assert not any(box.contains(*axes.transData.transform((p.x, p.accuracy))) for p in points)


def line(x, *numbers):
    std = np.full(len(x), np.nan) if len(numbers) == 1 else np.std(numbers, axis=0, ddof=1)
    return series.Curve(np.asarray(x), np.mean(numbers, axis=0), std)


def test_accuracy_against_data_has_a_tick_at_each_share():
    lines = {"Mixer": line([0.03, 0.1, 1], [10, 20, 40], [12, 24, 42]), "ViT": line([0.1], [30])}
    figure = charts.accuracy_against_data(lines, "Top-1")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["3 %", "10 %", "100 %"]
    pixels_of(figure)


def test_figure_4_has_a_colour_per_model_and_a_line_style_per_case():
    rng = np.random.default_rng(0)
    cases = ("original", "patches", "pixels")
    examples = {case: rng.integers(0, 256, (8, 8, 3)).astype(np.uint8) for case in cases}
    curves = {
        (model, case): line([0, 10, 20], [1, 5, 9 - i], [2, 5, 8 - i])
        for model in ("Mixer", "BiT")
        for i, case in enumerate(cases)
    }
    figure = charts.permutation_curves(examples, curves, "Top-1")
    *pictures, axes = figure.axes
    assert len(pictures) == 3 and len(axes.lines) == 6
    looks = [(drawn.get_color(), drawn.get_linestyle()) for drawn in axes.lines]
    assert len(set(looks)) == 6 and len({colour for colour, _ in looks}) == 2
    pixels_of(figure)


def test_an_odd_number_of_units_on_a_grid_that_is_not_square():
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(6, count)).astype(np.float32) for count in (7, 4)]
    pixels_of(units.hidden_units(kernels, (2, 3), "Mixer"))
    stem = np.zeros((4, 4, 3, 5), np.float32)
    stem[..., 0, :] = 1  # red alone
    pixels = pixels_of(units.stem_units(stem, "Mixer"))
    assert has(pixels, "FF7F7F") or has(pixels, "FF8080")
    infrared = np.zeros((4, 4, 4, 5), np.float32)
    infrared[..., 3, :] = -1  # black, and not the opacity of an RGBA image
    assert has(pixels_of(units.stem_units(infrared, "Mixer")), "000000")
