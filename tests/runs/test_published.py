"""A published name in `config.init_from`."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from PIL import Image
from stand_in import serve

import mixer
from configs import folder, quickstart
from mixer.checkpoint import adapt, zoo
from mixer.models import registry
from mixer.runs import build, predict

NAME = "Mixer-tiny/16:stand-in"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small Mixer of ImageNet's 1,000 classes under `NAME`: its parameters and its file."""
    module, fields = registry._MODELS["Mixer-S/16"]
    fields = fields | {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
    monkeypatch.setitem(registry._MODELS, "Mixer-tiny/16", (module, fields))
    model = mixer.create_model("Mixer-tiny/16", 1000)
    rng = np.random.default_rng(0)
    shapes = adapt.shapes(model, (224, 224))
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)
    file = tmp_path / "weights.npz"
    mixer.save_pretrained(file, params, model)
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    with serve(file.read_bytes()) as server:
        entry = dataclasses.replace(
            zoo.PUBLISHED["Mixer-B/16:imagenet1k"],
            name=NAME,
            model="Mixer-tiny/16",
            gelu="erf",
            url=server.url(),
        )
        monkeypatch.setitem(zoo.PUBLISHED, NAME, entry)
        yield params, file


def upstream(file):
    return {
        "model": "Mixer-tiny/16",
        "dataset": "imagenet2012",
        "epochs": None,
        "resolution": 224,
        "device_days": None,
        "path": NAME,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def test_it_brings_model_preprocessing_and_classes(published, data_dir):
    params, file = published
    config = quickstart.get_config("")  # of another model, size and dataset
    config.init_from = NAME
    trained = build.trained(config)
    jax.tree.map(np.testing.assert_array_equal, trained.params, params)
    assert trained.model.gelu == "erf" and trained.model.num_classes == 1000
    assert trained.card.transform == "resize_small(256)|central_crop(224)"
    assert trained.card.image_size == (224, 224)
    assert len(trained.card.classes) == 1000 and trained.card.classes[0] == "n01440764"
    assert trained.step is None and trained.upstream == upstream(file)


def test_heads_without_names_count(published, data_dir, monkeypatch):
    entry = dataclasses.replace(zoo.PUBLISHED[NAME], dataset="imagenet21k")
    monkeypatch.setitem(zoo.PUBLISHED, NAME, entry)
    config = quickstart.get_config("")
    config.init_from = NAME
    assert build.trained(config).card.classes == tuple(map(str, range(1000)))


def test_training_begins_from_it(published, data_dir, capsys):
    params, file = published
    config = folder.get_config("Mixer-tiny/16,224,smoke")
    config.model.num_blocks, config.init_from = 1, NAME
    training = build.training(config)
    loaded, known = training.initial()
    assert known == upstream(file)
    np.testing.assert_array_equal(loaded["stem"]["kernel"], params["stem"]["kernel"])
    assert "its head has 1000 classes; a new one for 10 classes" in capsys.readouterr().out


def test_predict(published, data_dir, tmp_path, capsys):
    Image.new("RGB", (50, 40), (20, 30, 240)).save(tmp_path / "sky.png")
    config = quickstart.get_config("")
    config.update(run="predict", init_from=NAME, images=str(tmp_path / "sky.png"))
    predict.run(config, str(tmp_path / "out"), "quickstart")
    assert "%  n0" in capsys.readouterr().out


def test_convert_takes_its_model(published, tmp_path):
    """Also its GELU, which a folder's card speaks of; the config is another model's."""
    params, _ = published
    config = quickstart.get_config("")
    config.update(run="convert", init_from=NAME, convert_to=str(tmp_path / "out.safetensors"))
    found = build.conversion(config)
    assert found.model.gelu == "erf" and found.card.model["name"] == "Mixer-tiny/16"
    assert found.card.image_size == (224, 224) and found.card.dataset == "imagenet2012"
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
