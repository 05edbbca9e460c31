"""The folder for the Hub: what timm 1.0.31 reads from it."""

import json
import math

import jax
import numpy as np
import pytest

import mixer
from mixer.checkpoint import adapt, hub
from mixer.checkpoint.pretrained import Card

SIZE = (32, 64)


def model(**fields):
    small = {"tokens_mlp_dim": 7, "channels_mlp_dim": 13}
    return mixer.create_model("Mixer-S/32", **({"num_classes": 3} | small | fields))


def card(transform="resize", image_size=SIZE, **changes):
    facts = {"classes": ("a", "b", "c"), "dataset": "folder:/home/me/pets"} | changes
    return Card({"name": "Mixer-S/32"}, image_size, transform, **facts)


def params(of):
    shapes = adapt.shapes(of, SIZE)
    return jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes)


def test_the_folder(tmp_path):
    folder = tmp_path / "pets"
    hub.save_folder(f"{folder}/", params(model()), model(), card())
    assert [p.name for p in tmp_path.iterdir()] == ["pets"]
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    loaded = mixer.load_pretrained(folder / "model.safetensors", model())
    jax.tree.map(np.testing.assert_array_equal, loaded, params(model()))
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "mixer_s32_224" and config["num_classes"] == 3
    assert config["label_names"] == ["a", "b", "c"]
    assert config["model_args"]["img_size"] == list(SIZE)
    assert config["pretrained_cfg"]["input_size"] == [3, *SIZE]
    assert config["pretrained_cfg"]["mean"] == config["pretrained_cfg"]["std"] == [0.5] * 3
    text = (folder / "README.md").read_text()
    assert text.startswith("---\ntags:\n") and 'approximate="tanh"' in text
    assert "trained on pets" in text and "/home" not in text
    assert "approximate" not in hub._readme("x", model(gelu="erf"), card(), config)
    with pytest.raises(mixer.BadInput, match="cannot be written"):
        hub.save_folder(f"{folder}/", params(model()), model(), card())


def test_nothing_is_left_of_a_refused_folder(tmp_path):
    for weights, of, message in (
        (params(model()), model(hidden_dim=500), r"only of \(32, 8, 512\), "),
        (params(model()), model(num_blocks=8, num_classes=4), "the model needs"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            hub.save_folder(f"{tmp_path}/new/", weights, of, card())
    assert not list(tmp_path.iterdir())


def test_timms_rounding_gives_our_numbers():
    for width in range(1, 5000):
        for of in (512, 768, 1024):
            assert int(hub._ratio(width, of) * of) == width
    for size in range(16, 900):
        resized = round(size * 8 / 7)
        crop = hub._crop(card(f"resize_small({resized})|central_crop", (size, size)))
        assert math.floor(size / crop["crop_pct"]) == resized and crop["crop_mode"] == "center"
    assert hub._crop(card("resize"))["crop_mode"] == "squash"
    assert hub._crop(card("central_crop")) == {}


@pytest.mark.parametrize("entry", [e for e in mixer.list_pretrained() if e.figures])
def test_what_came_from_timm_goes_back_as_it_was(entry):
    """crop_pct, interpolation and mean of timm's own configuration of these weights."""
    of = mixer.create_model(entry.model, entry.classes)
    made = hub.describe(of, card(entry.transform, entry.image_size))["pretrained_cfg"]
    assert made["crop_pct"] == 0.875 and made["interpolation"] == "bicubic"
    assert hub.describe(of, card("resize"))["pretrained_cfg"]["interpolation"] == "bilinear"


def test_every_size_of_the_paper_but_h_is_timms():
    known = {name: card for name in mixer.list_models() if name.startswith("Mixer")}
    for name in known:
        if name == "Mixer-H/14":
            continue
        found = hub.describe(mixer.create_model(name, 1000), card())
        size, patch = name.removeprefix("Mixer-").lower().split("/")
        assert found["architecture"] == f"mixer_{size}{patch}_224"
        assert found["model_args"]["mlp_ratio"] == [0.5, 4.0]
    with pytest.raises(mixer.BadInput, match="of Mixers only, and the model is a ViT: convert"):
        hub.describe(mixer.create_model("ViT-B/16", 1000), card())
    with pytest.raises(mixer.BadInput, match=r"\(14, 32, 1280\).*\.safetensors"):
        hub.describe(mixer.create_model("Mixer-H/14", 1000), card())
