"""Random erasing, colour jitter and AutoAugment: operations against torchvision's and timm's, laws.

What torchvision and timm did is in torch_pixels.npz, made by torch_pixels.py.
"""

import collections

import numpy as np
import pytest
import torch_pixels

from mixer import calls, errors
from mixer.data import autoaugment, drawn, enhance, randaugment, random_erasing, transforms
from mixer.data.autoaugment import AutoAugment
from mixer.data.color_jitter import ColorJitter
from mixer.data.random_erasing import RandomErasing

FIXTURE = np.load(torch_pixels.FIXTURE)
OPERATIONS = vars(randaugment) | vars(random_erasing) | vars(enhance)


def test_jitter_has_torchvisions_pixels():
    adjustments = enhance.brightness, enhance.contrast, enhance.color, enhance.hue
    for (order, values), wanted in zip(torch_pixels.jitters(), FIXTURE["jitter"], strict=True):
        image = torch_pixels.image()
        for i in order:
            image = adjustments[i](image, values[i])
        np.testing.assert_array_equal(image, wanted)


def test_jitter_draws_uniform_factors_in_any_order():
    jitter = ColorJitter(0.4, 1.5, 0.2, 0.1)
    orders, values = collections.Counter(), collections.defaultdict(list)
    for seed in range(2400):
        found = jitter.draw((8, 8), np.random.default_rng(seed))
        orders[tuple(operation.__name__ for operation, _ in found)] += 1
        for operation, arguments in found:
            values[operation.__name__] += arguments.values()
    assert len(orders) == 24
    np.testing.assert_allclose([*orders.values()], 100, atol=45)
    ranges = {"brightness": (0.6, 1.4), "contrast": (0, 2.5), "color": (0.8, 1.2)}
    for name, (low, high) in (ranges | {"hue": (-0.1, 0.1)}).items():
        quartiles = np.quantile(values[name], (0, 0.25, 0.5, 0.75, 1))
        np.testing.assert_allclose(
            quartiles, np.linspace(low, high, 5), atol=0.03 * (high - low), err_msg=name
        )
    (only,) = ColorJitter(hue=0.5).draw((8, 8), np.random.default_rng(0))
    assert only[0] is enhance.hue


def test_autoaugment_has_torchvisions_pixels():
    for number, both in enumerate(FIXTURE["policy"]):
        for signs, wanted in zip(torch_pixels.SIGNS, both, strict=True):
            image = torch_pixels.image()
            for (operation, _, level), plus in zip(autoaugment.POLICY[number], signs, strict=True):
                image = operation(
                    image, **autoaugment.arguments(operation, level, 1 if plus else -1)
                )
            different = np.abs(image.astype(int) - wanted)
            if number == 18 and signs == (0, 0):
                # Equalised after a shear to the left: half a pixel of another row is rounded.
                assert different.mean() < 12
            else:
                # torchvision's factors are rounded to float32.
                assert different.max() <= 1 and (different > 0).mean() < 0.01, (number, signs)


def test_autoaugment_draws_by_torchvisions_table():
    names, probabilities = FIXTURE["operations"], FIXTURE["probabilities"]
    policy = np.array(autoaugment.POLICY, object)
    ours = [[operation.__name__.replace("_", "") for operation in pair] for pair in policy[..., 0]]
    np.testing.assert_array_equal(ours, np.char.lower(names))
    np.testing.assert_array_equal(policy[..., 1].astype(float), probabilities)
    counts, signs = collections.Counter(), []
    for seed in range(8000):
        for operation, arguments in AutoAugment().draw((8, 8), np.random.default_rng(seed)):
            counts[operation.__name__.replace("_", "")] += 1
            signs += [np.sign(arguments["degrees"])] if "degrees" in arguments else []
    for name in np.unique(names):
        wanted = probabilities[names == name].sum() / 25
        assert counts[name.lower()] / 8000 == pytest.approx(wanted, abs=0.02), name
    assert abs(np.mean(signs)) < 0.1


class Scripted:
    """A generator that gives timm's numbers, to the same questions."""

    def __init__(self, numbers):
        self._numbers = iter(numbers)

    def _next(self, low, high):
        asked, (*bounds, number) = (low, high), next(self._numbers)
        np.testing.assert_allclose(asked, bounds)
        return number

    def random(self):
        return self._next(0, 1)

    def uniform(self, low, high):
        return self._next(low, high)

    def integers(self, stop):
        return self._next(0, stop - 1)


def test_erasing_takes_timms_boxes():
    erasing = RandomErasing(0.9, (0.1, 0.9), (0.2, 5), value=7)
    assert (FIXTURE["boxes"] < 0).all(1).any() and (FIXTURE["boxes"] >= 0).all(1).sum() > 40
    for run, box in enumerate(FIXTURE["boxes"]):
        numbers = FIXTURE["erasing"][FIXTURE["erasing"][:, 0] == run][:, 1:]
        found = erasing.draw(torch_pixels.SIZE, Scripted(numbers))
        if box[0] < 0:
            assert not found
            continue
        ((operation, arguments),) = found
        assert [*arguments.values()] == [*box, 7]
        top, left, height, width = box
        wanted = torch_pixels.image()
        wanted[top : top + height, left : left + width] = 7
        np.testing.assert_array_equal(operation(torch_pixels.image(), **arguments), wanted)


def test_what_is_put_into_the_box():
    image, box = np.zeros((90, 90, 3), np.uint8), (5, 10, 70, 60)
    noise = random_erasing.erase_with_noise(image, *box, seed=3)
    inside = noise[5:75, 10:70].reshape(-1, 3).astype(float)
    # timm's standard normal noise, before ImageNet's mean and deviation are taken off.
    np.testing.assert_allclose(inside.mean(0), [123.7, 116.3, 103.5], atol=4)
    np.testing.assert_allclose(inside.std(0), [58.4, 57.1, 57.4], rtol=0.07)
    assert not np.delete(noise, np.s_[5:75], axis=0).any() and not noise[:, 70:].any()
    colours = set()
    for seed in range(40):
        chance = RandomErasing(1, value="color").draw((90, 90), np.random.default_rng(seed))
        colours |= {arguments["value"] for _, arguments in chance}
    assert len(colours) == 40 and all(len(colour) == 3 for colour in colours)
    rng = np.random.default_rng(1)
    done = [bool(RandomErasing(0.25).draw((32, 32), rng)) for _ in range(4000)]
    assert np.mean(done) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    "text",
    [
        "autoaugment",
        "color_jitter(0.4, 0.4, 0.4, 0.1)",
        "random_erasing(1.0)",
        "random_erasing(1.0, value='color')",
    ],
)
def test_what_is_reported_makes_the_pixels_again(text):
    chain = transforms.parse(f"{text}|resize", (24, 20))
    image = np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8)
    for seed in range(8):
        trace = drawn.Trace((0, 0, 24, 20))
        made = chain(image, np.random.default_rng(seed), trace.apply)
        np.testing.assert_array_equal(made, chain(image, np.random.default_rng(seed)))
        again = image
        for call in trace.operations:
            name, _, arguments = calls.parse(call)
            again = OPERATIONS[name](again, **arguments)
        np.testing.assert_array_equal(again, made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("color_jitter()", "all four are 0, which changes nothing"),
        ("color_jitter(hue=0.6)", r"hue 0.6 is not a number of 0 \.\.\. 0.5"),
        ("color_jitter((0.5, 1.5))", "brightness .* is not a number of 0 or more. Its signature"),
        ("random_erasing(0)", "probability 0 is not in"),
        ("random_erasing(0.5, (2, 33))", "is not .* shares of the image"),
        ("random_erasing(0.5, aspect=(3, 0.3))", "aspect"),
        ("random_erasing(0.5, value='rand')", "value 'rand' is not 'pixel', 'color', a grey"),
        ("random_erasing(0.5, value=256)", "value 256 is not"),
        ("autoaugment(2)", "autoaugment"),
        ("autoaugmet", "Did you mean 'autoaugment'"),
    ],
)
def test_bad_arguments_are_refused(text, message):
    with pytest.raises(errors.BadInput, match=message):
        transforms.parse(text, (8, 8))
