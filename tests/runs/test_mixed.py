"""Mixup and CutMix as config keys: what is refused, and the contact sheet that shows them."""

import numpy as np
import pytest

from configs import quickstart
from mixer.errors import BadInput
from mixer.runs.contact_sheet import mixed
from mixer.runs.update import mixing_of
from mixer.training.mixing import Mixing
from mixer.training.step import draw_of

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mixup": -0.1}, "config.mixup=-0.1: expected 0 <= mixup"),
        ({"cutmix": float("nan")}, "config.cutmix=nan: expected 0 <= cutmix"),
        (
            {"mixup": 0.8, "cutmix": 1.0, "mixup_switch_prob": 1.0},
            "config.mixup_switch_prob=1.0: expected 0 < .* For one of them alone, set the other",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(given, message):
    config = quickstart.get_config()
    config.update(given)
    with pytest.raises(BadInput, match=message):
        mixing_of(config)


@pytest.mark.parametrize("mixing", [Mixing(0.8), Mixing(0.8, 1.0)])
def test_the_contact_sheet_mixes_each_image_by_the_draw_of_a_step(mixing):
    rng, size = np.random.default_rng(0), (8, 10)
    images = rng.integers(0, 256, (6, *size, 3)).astype(np.uint8)
    shown, told = mixed(images, mixing, seed=2)
    for i, (image, text) in enumerate(zip(shown, told, strict=True)):
        draw = draw_of(mixing, 2, i, size)
        wanted = float(draw.lam) * images[i] + (1 - float(draw.lam)) * images[i - 1]
        if draw.cut:
            top, left, bottom, right = draw.box.tolist()
            wanted = images[i].copy()
            wanted[top:bottom, left:right] = images[i - 1, top:bottom, left:right]
        assert abs(image - wanted).max() < 0.51
        kind, _, lam = text.partition(" ")
        assert kind == ("CutMix" if draw.cut else "mixup")
        assert float(lam) == pytest.approx(float(draw.lam), abs=0.006)
    assert len({text.split()[0] for text in told}) == 1 + bool(mixing.cutmix)
