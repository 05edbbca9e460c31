import dataclasses
import types

import pytest

from configs import quickstart
from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data import turbojpeg
from mixer.data.decode import Decoding
from mixer.data.sources.subset import Subset
from mixer.runs.data import decoding_of

OWN, TFDS = types.SimpleNamespace(), types.SimpleNamespace(published=True)
CARD = ModelCard(model={}, image_size=(8, 8), transform="resize", classes=(), dataset="")


@pytest.fixture
def config():
    return quickstart.get_config("")


@pytest.mark.parametrize(
    ("asked", "card", "own", "tfds"),
    [
        ("auto", None, False, True),
        ("auto", "auto", False, True),
        ("auto", "tensorflow", True, True),
        ("auto", "upright", False, False),
        ("upright", "tensorflow", False, False),
        ("tensorflow", "upright", True, True),
    ],
)
def test_which_setting_decides_how_images_are_decoded(config, asked, card, own, tfds):
    """The command, else the run that trained the model, else the dataset."""
    config.input.decoding = asked
    card = card and dataclasses.replace(CARD, decoding=card)
    assert decoding_of(config, OWN, card).as_tensorflow is own
    assert decoding_of(config, None, card).as_tensorflow is own
    assert decoding_of(config, TFDS, card).as_tensorflow is tfds
    assert decoding_of(config, Subset(TFDS, 0, 1), card).as_tensorflow is tfds


def test_the_limits_are_those_of_the_config(config):
    assert decoding_of(config, OWN) == Decoding()
    config.input.update(max_pixels=12_000 * 9_000, max_aspect_ratio=7.5)
    fast = turbojpeg.available()  # without the library it is refused
    found = decoding_of(config, OWN, fast=fast)
    assert found == Decoding(fast=fast, max_pixels=108_000_000, max_aspect_ratio=7.5)
    found.check_size(9_000, 12_000)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decoding", "upwright", "config.input.decoding.*Did you mean 'upright'"),
        ("max_pixels", 0, "config.input.max_pixels=0: expected 1 or more"),
        ("max_aspect_ratio", float("nan"), "config.input.max_aspect_ratio=nan: expected 1 or more"),
    ],
)
def test_bad_values_are_refused(config, key, value, message):
    with config.ignore_type():
        config.input[key] = value
    with pytest.raises(errors.BadInput, match=message):
        decoding_of(config, OWN)
