"""What devices need is compared with what the paper's authors counted."""

import types

import jax
import pytest

from configs import imagenet
from mixer.runs import needed


def test_the_rate_follows_from_the_flops_of_the_model_and_the_peak_of_the_device():
    config = imagenet.get_config("Mixer-B/16")
    core = types.SimpleNamespace(device_kind="TPU v3", num_cores=1, platform="tpu")
    # Mixer-B/16 has 12.6 GFLOPs (multiply-accumulates) forward, and as many for each gradient.
    expected = 0.4 * 61.5e12 / (2 * 3 * 12.6e9)
    assert needed.images_per_second_per_device(config, [core]) == pytest.approx(expected, rel=0.02)
    assert needed.images_per_second_per_device(config, jax.devices()) is None
