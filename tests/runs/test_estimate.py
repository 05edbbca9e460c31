"""The estimate of a step without compiling it, beside the TPU compiler's programs."""

import functools
import types

import jax
import pytest

import mixer
from configs import imagenet
from mixer.planning import flops, peaks
from mixer.runs import estimate
from tools.csv_tables import read

PLANS = [line for line in read("plans") if line["slices"] == line["micro_batches"] == "1"]


@functools.cache
def load(name):
    return estimate.load_of(mixer.create_model(name, num_classes=1000), (224, 224))


def test_it_is_near_the_compiled_steps():
    assert PLANS
    for line in PLANS:
        peak, devices = peaks.by_product_name(line["slice"])
        found = load(f"Mixer-{line['model']}").step_seconds(4096, devices, peak)
        assert found == pytest.approx(float(line["step_seconds"]), rel=0.12), line


def test_what_products_read_and_write_by_hand():
    model = mixer.create_model("Mixer-S/16", num_classes=10, num_blocks=2)
    tokens, channels = 196 * 512, 512 * 256  # an image's tokens; the hidden units of token mixing
    hidden = 196 * 2048
    block = (tokens + channels) + (channels + tokens) + (tokens + hidden) + (hidden + tokens)
    stem, head = 224 * 224 * 3 + tokens, 512 + 10
    found = flops.training(model, (224, 224))
    assert found.elements == 3 * (stem + 2 * block + head)
    sizes = [224 * 224 * 3, tokens, *2 * (4 * [tokens] + 2 * [channels] + 2 * [hidden]), 512, 10]
    assert sum(sizes) == stem + 2 * block + head
    assert found.size == pytest.approx(sum(size**2 for size in sizes) / sum(sizes))
    scanned = model.clone(scan=True)
    assert flops.training(scanned, (224, 224)) == found


@pytest.mark.parametrize("name", ["ViT-B/16", "BiT-R50x1", "gMLP-S", "ConvNeXt-T"])
def test_every_family_has_one(name):
    peak, devices = peaks.by_product_name("H100-8")
    seconds = load(name).step_seconds(1024, devices, peak)
    at_peak = load(name).flops * 1024 / 8 / peak.flops
    assert at_peak < seconds < 20 * at_peak


def test_the_images_that_a_core_needs():
    config = imagenet.get_config("Mixer-B/16")
    core = types.SimpleNamespace(device_kind="TPU v3", num_cores=1, platform="tpu")
    # Mixer-B/16 has 12.6 GFLOPs (multiply-accumulates) forward, and as many for each gradient.
    at_peak = 61.5e12 / (2 * 3 * 12.6e9)
    found = estimate.images_per_second(config, [core] * 128)
    assert 0.4 * at_peak < found < 0.8 * at_peak
    # The paper took 10 core-days for 300 epochs of ImageNet: 440 images/s a core.
    assert found == pytest.approx(300 * 1_268_355 / (10 * 86400), rel=0.35)
    assert estimate.images_per_second(config, jax.devices()) is None
