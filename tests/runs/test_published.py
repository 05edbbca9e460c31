"""A published name, or a folder of the Hub, in `config.init_from`."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
from hub_stand_in import serve_hub, used_by_the_library
from PIL import Image
from stand_in import serve

import mixer
from configs import folder, groups, quickstart
from mixer.checkpoint.model_card import ModelCard
from mixer.models import registry
from mixer.runs import convert, predict
from mixer.runs import trained as trained_run
from mixer.runs.convert import conversion
from mixer.runs.trained import load_trained
from mixer.runs.training import build_training
from mixer.runs.weights import at_size
from mixer.weights import fitting, saving, zoo

pytestmark = pytest.mark.usefixtures("one_device")

NAME = "Mixer-tiny/16:stand-in"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small Mixer of ImageNet's 1,000 classes under `NAME`: its parameters and its file."""
    module, fields = registry._MODELS["Mixer-S/16"]
    fields = fields | {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
    monkeypatch.setitem(registry._MODELS, "Mixer-tiny/16", (module, fields))
    model = mixer.create_model("Mixer-tiny/16", 1000)
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(model, (224, 224))
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


def test_a_file_of_another_model_is_named_with_the_word_for_it(published):
    _, file = published
    for name in ("Mixer-S/16", "ViT-S/16"):
        config = quickstart.get_config(f"{name},224", "fewshot")
        config.init_from = str(file)
        with pytest.raises(mixer.BadInput, match="not the recipe's .* --config=RECIPE:Mixer-tiny"):
            load_trained(config)


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
    trained = load_trained(config)
    jax.tree.map(np.testing.assert_array_equal, trained.params, params)
    assert trained.model.gelu == "erf" and trained.model.num_classes == 1000
    assert trained.card.transform == "resize_small(256)|central_crop(224)"
    assert trained.card.image_size == (224, 224)
    assert len(trained.card.classes) == 1000 and trained.card.classes[0] == "n01440764"
    assert trained.step is None and trained.upstream == upstream(file)


def test_heads_without_class_names_are_numbered(published, data_dir, monkeypatch):
    entry = dataclasses.replace(zoo.PUBLISHED[NAME], dataset="imagenet21k")
    monkeypatch.setitem(zoo.PUBLISHED, NAME, entry)
    config = quickstart.get_config("")
    config.init_from = NAME
    assert load_trained(config).card.classes == tuple(map(str, range(1000)))


def test_a_thousand_other_classes_are_not_imagenets(published, capsys):
    params, _ = published
    model = mixer.create_model("Mixer-tiny/16", 1000, gelu="erf")
    classes = zoo.PUBLISHED[NAME].class_names
    kept = mixer.load_pretrained(NAME, model, classes=classes)
    np.testing.assert_array_equal(kept["head"]["kernel"], params["head"]["kernel"])
    assert "head" not in capsys.readouterr().out
    others = [f"class {i}" for i in range(1000)]
    assert not np.any(mixer.load_pretrained(NAME, model, classes=others)["head"]["kernel"])
    said = "is for other classes, n01440764, n01443537, n01484850, ..., than class 0, class 1"
    assert said in capsys.readouterr().out


def test_training_starts_from_it(published, data_dir, capsys):
    params, file = published
    config = folder.get_config("Mixer-tiny/16,224,smoke")
    config.model.num_blocks, config.init_from = 1, NAME
    training = build_training(config)
    loaded, known = training.initial()
    assert known == upstream(file)
    np.testing.assert_array_equal(loaded["stem"]["kernel"], params["stem"]["kernel"])
    assert "its head has 1000 classes; a new one for 10 classes" in capsys.readouterr().out


def test_predict(published, data_dir, tmp_path, capsys):
    Image.new("RGB", (50, 40), (20, 30, 240)).save(tmp_path / "sky.png")
    config = quickstart.get_config("", "predict")
    config.update(init_from=NAME, images=str(tmp_path / "sky.png"))
    with pytest.raises(mixer.BadInput, match="weights.npz/out cannot be written: Not a directory"):
        predict.run(config, str(tmp_path / "weights.npz/out"), "quickstart")
    assert "%" not in capsys.readouterr().out  # before it predicts
    predict.run(config, str(tmp_path / "out"), "quickstart")
    out = capsys.readouterr().out
    (line,) = map(json.loads, (tmp_path / "out" / "predictions.jsonl").open())
    assert [each["class"][0] for each in line["top"]] == ["n"] * 5
    assert all(f"%  {each['name']}\n" in out for each in line["top"])
    config.update(init_from=NAME, images=str(tmp_path / "sky.png"))
    config.predict.embeddings = "npz"
    predict.run(config, str(tmp_path / "features"), "quickstart")


def test_convert_takes_its_model(published, tmp_path):
    """Including its GELU, which a folder's card records; the config has another model."""
    params, _ = published
    config = quickstart.get_config("", "convert")
    config.update(init_from=NAME, convert_to=str(tmp_path / "out.safetensors"))
    found = conversion(config)
    assert found.model.gelu == "erf" and found.card.model["name"] == "Mixer-tiny/16"
    assert found.card.image_size == (224, 224) and found.card.dataset == "imagenet2012"
    jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_arrays_that_the_format_lacks_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    """timm's files have no representation layer of a ViT."""
    module, fields = registry._MODELS["ViT-S/16"]
    small = {"num_blocks": 1, "hidden_dim": 12, "mlp_dim": 8, "num_heads": 2}
    fields = fields | small | {"representation_size": 7}
    monkeypatch.setitem(registry._MODELS, "ViT-own/16", (module, fields))
    model = mixer.create_model("ViT-own/16", 3)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), fitting.shapes(model, (32, 32)))
    mixer.save_pretrained(tmp_path / "own.npz", zeros, model)
    config = folder.get_config("ViT-own/16,32", "convert")
    config.init_from = f"{tmp_path}/own.npz"
    config.convert_to = f"{tmp_path}/out.safetensors"
    with pytest.raises(mixer.BadInput, match="timm's names have none for representation/"):
        convert.run(config, str(tmp_path / "run"), "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["own.npz"]


@pytest.fixture
def hub_dir(tmp_path):
    """A folder written by convert, with the digits in reverse: its model, parameters and path."""
    model = mixer.create_model("Mixer-S/32", 10, tokens_mlp_dim=3, channels_mlp_dim=8)
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(model, (64, 64))
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)
    digits = tuple(map(str, reversed(range(10))))
    card = ModelCard({"name": "Mixer-S/32"}, (64, 64), "resize(70)|central_crop", digits, "digits")
    saving.save_folder(f"{tmp_path}/hub/", params, model, card)
    return model, params, tmp_path / "hub"


def test_a_folder_brings_model_preprocessing_and_classes(hub_dir, data_dir, capsys):
    model, params, path = hub_dir
    config = quickstart.get_config("Mixer-B/16")
    config.init_from = str(path)
    trained = load_trained(config)
    jax.tree.map(np.testing.assert_array_equal, trained.params, params)
    assert trained.model == model and trained.model.gelu == "tanh"
    assert trained.card.transform == "resize(70)|central_crop"
    assert trained.card.image_size == (64, 64)
    assert trained.card.classes == tuple("9876543210")
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    assert trained.upstream["sha256"] == digest and trained.upstream["model"] == "Mixer-S/32"
    out = capsys.readouterr().out
    said = "a Mixer-S/32 with tokens_mlp_dim=3, channels_mlp_dim=8, by the shapes of its arrays"
    assert said in out
    groups.add(config, "convert")
    config.update(run="convert", convert_to=f"{path}-again/")
    assert conversion(config).card.classes == trained.card.classes


def test_a_folder_is_pushed_to_the_hub_with_its_page(hub_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))  # which keeps digests
    _, params, path = hub_dir
    config = quickstart.get_config("", "convert")
    target = f"{tmp_path}/digits/"
    config.update(init_from=str(path), convert_to=target, push="lab/digits@v1", license="mit")
    with serve_hub({}) as server:
        used_by_the_library(server.url, tmp_path, monkeypatch)
        with pytest.raises(mixer.BadInput, match="config.push='lab/digits@v1' needs a login"):
            convert.run(config, str(tmp_path / "run"), "quickstart")
        assert not (tmp_path / "digits").exists() and not server.requests
        monkeypatch.setenv("HF_TOKEN", server.token)
        convert.run(config, str(tmp_path / "run"), "quickstart")
        pushed = server.repos["lab/digits"]["v1"]
        _, again, card = mixer.load("hf://lab/digits@v1")
    assert "pushed to http" in capsys.readouterr().out and server.private == {"lab/digits"}
    assert pushed == {file.name: file.read_bytes() for file in (tmp_path / "digits").iterdir()}
    page = pushed["README.md"].decode()
    assert "\nlicense: mit\n" in page and "hf-hub:lab/digits" in page
    assert 'mixer.load("hf://lab/digits")' in page
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert card.classes == tuple("9876543210")
    config.update(convert_to=f"{tmp_path}/b/", license="My own")
    with pytest.raises(mixer.BadInput, match="config.license='My own': expected the Hub's name"):
        convert.run(config, str(tmp_path / "b-run"), "quickstart")


def test_a_folder_without_classes_or_preprocessing_uses_the_configs(hub_dir, data_dir, capsys):
    _, params, path = hub_dir
    (path / "config.json").write_text('{"architecture": "mixer_s32_224"}')
    config = quickstart.get_config("")
    config.init_from = str(path)
    trained = load_trained(config)
    jax.tree.map(np.testing.assert_array_equal, trained.params, params)
    assert trained.model.gelu == "erf" and trained.card.image_size == (64, 64)
    assert trained.card.classes == tuple("0123456789") and trained.card.transform == "resize"
    out = capsys.readouterr().out
    assert "records no class names: using those of digits, in order" in out
    assert "does not record how images are resized: using the config's way" in out


def test_a_folders_head_is_reordered_for_training_and_others_are_reset(hub_dir, data_dir, capsys):
    model, params, path = hub_dir
    config = quickstart.get_config("Mixer-S/32,64")
    config.model.update(tokens_mlp_dim=3, channels_mlp_dim=8)
    config.init_from, config.batch_size = str(path), 16
    begun, _ = build_training(config).initial()
    np.testing.assert_array_equal(begun["head"]["kernel"], params["head"]["kernel"][:, ::-1])
    assert "has the same classes in another order" in capsys.readouterr().out
    content = json.loads((path / "config.json").read_text())
    content["label_names"] = [f"class {i}" for i in range(10)]
    (path / "config.json").write_text(json.dumps(content))
    digits = tuple("0123456789")
    begin = lambda: at_size(config, model, (64, 64), config.init_head, digits)[1]()
    assert not np.any(begin()["head"]["kernel"])
    assert "is for other classes, class 0, class 1, class 2, ..." in capsys.readouterr().out
    config.init_head = "keep"
    np.testing.assert_array_equal(begin()["head"]["kernel"], params["head"]["kernel"])
    for changes in ({"init_ema": True}, {"init_step": "best"}):
        config.update(changes)
        with pytest.raises(mixer.BadInput, match="only a workdir has steps and averaged"):
            at_size(config, model, (64, 64), "auto")


def test_a_url_with_a_password_is_refused(data_dir, tmp_path):
    config = quickstart.get_config("", "convert")
    config.update(init_from="https://me:secret@host/x.npz", convert_to=str(tmp_path / "x.npz"))
    for build_it in (load_trained, conversion, build_training):
        with pytest.raises(mixer.BadInput, match="'https://host/x.npz' was given with a user") as e:
            build_it(config)
        assert "secret" not in str(e.value)


def test_a_conversion_needs_a_local_target():
    config = quickstart.get_config("", "convert")
    for target in ("gs://bucket/x.npz", "gs://bucket/folder/"):
        config.update(init_from="x.npz", convert_to=target)
        with pytest.raises(mixer.BadInput, match=f"{target}.: expected a local path"):
            conversion(config)


def test_modules_of_others_are_imported_only_if_they_are_named(tmp_path, data_dir, monkeypatch):
    """Importing runs their code: see config.imports."""
    card = dict(model={}, image_size=(8, 8), transform="resize", classes=(), dataset="x")
    meta = {"step": 1, "card": card | {"imports": "their_lab, ours"}}
    monkeypatch.setattr(trained_run, "upstream_of", lambda config: ({}, meta))
    monkeypatch.setattr(convert, "upstream_of", lambda config: ({}, meta))
    (tmp_path / "ours.py").write_text("")
    (tmp_path / "their_lab.py").write_text("raise SystemExit('their code runs')")
    monkeypatch.syspath_prepend(tmp_path)
    config = quickstart.get_config("", "convert")
    config.update(init_from="runs/theirs", imports="ours", convert_to="x.npz")
    for build_it in (load_trained, conversion):
        with pytest.raises(
            mixer.BadInput, match=r"needs the modules their_lab.*imports=ours,their_"
        ):
            build_it(config)
    config.imports = "ours,their_lab"
    with pytest.raises(SystemExit, match="their code runs"):
        load_trained(config)
