"""`mixer.load` returns what `config.run=predict` uses."""

import ast
import dataclasses
import hashlib
import json
import re
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from PIL import Image
from stand_in import serve

import mixer
from configs import folder
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.store import Store
from mixer.models import registry
from mixer.runs import predict
from mixer.weights import fitting, saving, zoo

TINY, CLASSES = "Mixer-tiny/16", 12
SIZES = {"num_blocks": 1, "hidden_dim": 24, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
NUMBERS = tuple(map(str, range(CLASSES)))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    module, fields = registry._MODELS["Mixer-S/16"]
    monkeypatch.setitem(registry._MODELS, TINY, (module, fields | SIZES))


def drawn(model, image_size=(64, 64)):
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(model, image_size)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32) / 2, shapes)


def tiny_model(**changes):
    return mixer.create_model(TINY, CLASSES, **changes)


def workdir(path, imports="", **steps):
    """Writes a workdir with checkpoints: step1=(parameters, averaged parameters, score)."""
    model = {"name": TINY} | registry.model_fields(TINY) | {"num_classes": CLASSES, "gelu": "erf"}
    classes = tuple(f"class {i}" for i in reversed(NUMBERS))
    card = ModelCard(model, (64, 64), "resize(70)|central_crop", classes, "drawn", imports)
    meta = {"card": dataclasses.asdict(card), "epochs": 1.0, "device_days": 0.0}
    with Store(epath.Path(path) / "checkpoints", keep=3, best="val/top1") as store:
        for step, (params, ema, score) in steps.items():
            items = jax.tree.map(jnp.asarray, {"params": params, "ema": ema})
            store.save(int(step.removeprefix("step")), items, meta, {"val/top1": score})
    return card


@pytest.fixture
def photos(tmp_path):
    """A folder with a JPEG that EXIF rotates, a grey PNG and a transparent one."""
    root = tmp_path / "photos"
    root.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    image = Image.fromarray(noise).resize((120, 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(root / "turned.jpg", exif=exif)
    image.convert("L").save(root / "grey.png")
    image.putalpha(100)
    image.save(root / "veiled.png")
    return root


@pytest.fixture
def of_a_workdir(tmp_path):
    params = drawn(tiny_model())
    workdir(tmp_path / "run", step7=(params, params, 0.5))
    return tmp_path / "run", params


@pytest.fixture
def of_a_published_name(tmp_path, monkeypatch):
    params = drawn(tiny_model())
    mixer.save_pretrained(tmp_path / "x.npz", params, tiny_model())
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    with serve((tmp_path / "x.npz").read_bytes()) as server:
        entry = dataclasses.replace(
            zoo.PUBLISHED["Mixer-B/16:imagenet1k"],
            name=f"{TINY}:stand-in",
            model=TINY,
            gelu="erf",
            dataset="nothing",
            classes=CLASSES,
            image_size=(64, 64),
            transform="resize_small(80)|central_crop",
            url=server.url(),
        )
        monkeypatch.setitem(zoo.PUBLISHED, entry.name, entry)
        yield entry.name, params


@pytest.fixture
def of_a_hub_folder(tmp_path):
    model = mixer.create_model("Mixer-S/32", CLASSES, tokens_mlp_dim=3, channels_mlp_dim=8)
    params = drawn(model)
    card = ModelCard(
        {"name": "Mixer-S/32"}, (64, 64), "resize(70)|central_crop", NUMBERS[::-1], "x"
    )
    saving.save_folder(f"{tmp_path}/hub/", params, model, card)
    return tmp_path / "hub", params


@pytest.fixture
def of_an_npz(tmp_path):
    params = drawn(tiny_model())
    mixer.save_pretrained(tmp_path / "x.npz", params, tiny_model())
    return tmp_path / "x.npz", params


@pytest.fixture
def of_a_safetensors(tmp_path):
    params = drawn(tiny_model())
    mixer.save_pretrained(tmp_path / "x.safetensors", params, tiny_model(gelu="erf"))
    return tmp_path / "x.safetensors", params


# With the class names that it has.
KINDS = {
    "of_a_workdir": tuple(f"class {i}" for i in reversed(NUMBERS)),
    "of_a_published_name": NUMBERS,
    "of_a_hub_folder": NUMBERS[::-1],
    "of_an_npz": NUMBERS,
    "of_a_safetensors": NUMBERS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_loading_gives_what_predict_uses(kind, request, photos, tmp_path):
    path, params = request.getfixturevalue(kind)
    model, loaded, card = mixer.load(path)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}
    assert card.class_names == KINDS[kind] and card.image_size == (64, 64)
    logits = model.apply({"params": loaded}, mixer.preprocess(photos, card))
    mine = np.asarray(jax.nn.softmax(logits))

    config = folder.get_config(f"{TINY},64", "predict")
    config.update(init_from=str(path), images=str(photos))
    if kind in ("of_an_npz", "of_a_safetensors"):  # which say nothing of themselves
        (tmp_path / "names").write_text("\n".join(NUMBERS))
        config.input.class_names = str(tmp_path / "names")
        config.model.gelu = "erf" if kind == "of_a_safetensors" else "tanh"
    predict.run(config, str(tmp_path / "out"), "folder")
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == sorted(map(str, photos.iterdir()))
    for line, row in zip(lines, mine, strict=True):
        top = json.loads(line)["top"]
        assert [each["class"] for each in top] == [
            card.class_names[i] for i in np.argsort(-row)[:5]
        ]
        assert [each["probability"] for each in top] == pytest.approx(np.sort(row)[:-6:-1], 1e-4)


def test_the_card_names_its_origin(of_a_workdir, of_an_npz, of_a_published_name):
    _, _, card = mixer.load(of_a_workdir[0])
    assert (card.path, card.step, card.sha256) == (str(of_a_workdir[0]), 7, None)
    digest = hashlib.sha256(of_an_npz[0].read_bytes()).hexdigest()
    for path, _ in (of_an_npz, of_a_published_name):
        _, _, card = mixer.load(path)
        assert (card.path, card.step, card.sha256) == (str(path), None, digest)


def test_a_workdir_has_steps_a_best_one_and_averages(tmp_path):
    first, second, third = (drawn(tiny_model()) for _ in range(3))
    second["head"]["bias"] += 1
    third["head"]["bias"] += 2
    workdir(tmp_path, step1=(first, third, 0.9), step2=(second, third, 0.1))
    bias = lambda **asked: mixer.load(tmp_path, **asked)[1]["head"]["bias"]
    np.testing.assert_array_equal(bias(), second["head"]["bias"])
    np.testing.assert_array_equal(bias(step="best"), first["head"]["bias"])
    np.testing.assert_array_equal(bias(step=1), first["head"]["bias"])
    np.testing.assert_array_equal(bias(ema=True), third["head"]["bias"])
    assert mixer.load(tmp_path, step="best")[2].step == 1


def test_modules_of_a_workdir_are_not_imported_unasked(tmp_path, monkeypatch):
    params = drawn(tiny_model())
    workdir(tmp_path / "run", "their_lab, sys", step1=(params, params, 0.5))
    (tmp_path / "their_lab.py").write_text("raise SystemExit('their code runs')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(mixer.BadInput, match=r"needs the modules their_lab\. .*first import"):
        mixer.load(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "their_lab", types.ModuleType("their_lab"))
    assert mixer.load(tmp_path / "run")[2].step == 1


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("Mixer-S/32", "npz"),
        ("ViT-Ti/16", "safetensors"),
        ("ResMLP-S12", "safetensors"),
    ],
)
def test_a_file_is_recognised_by_its_arrays(name, ending, tmp_path, capsys):
    model = mixer.create_model(name, 3)
    shapes = fitting.shapes(model, (64, 64))
    params = jax.tree.map(lambda s: np.ones(s.shape, np.float32), shapes)
    path = tmp_path / f"x.{ending}"
    mixer.save_pretrained(path, params, model)
    found, loaded, card = mixer.load(path)
    assert found == model and card.class_names == ("0", "1", "2")
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    said = f"x.{ending}: taken for a {name} of 64 x 64 pixels, gelu='{model.gelu}'; 3 classes witho"
    assert said in capsys.readouterr().out


def test_files_of_timm_use_the_exact_gelu(of_a_safetensors, monkeypatch, capsys):
    monkeypatch.setattr("mixer.weights.formats.gelu", lambda path: None)  # of timm's own
    assert mixer.load(of_a_safetensors[0])[0].gelu == "erf"
    assert "gelu='erf'" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_sizes_that_no_registered_model_has_need_its_name(ending, tmp_path, capsys):
    """A Mixer with wider token mixing and smaller patches than the registered one."""
    model = tiny_model(tokens_mlp_dim=16, patch_size=8)
    params = drawn(model, (128, 128))
    path = tmp_path / f"large.{ending}"
    mixer.save_pretrained(path, params, model, image_size=128)
    wanted = f"patch_size=8, .*tokens_mlp_dim=16.*, but no .*: model='{TINY}' takes them"
    with pytest.raises(mixer.BadInput, match=wanted):
        mixer.load(path)
    found, loaded, card = mixer.load(path, model=TINY)
    assert found == model and card.image_size == (128, 128)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    said = f"a {TINY} with patch_size=8, tokens_mlp_dim=16, by the shapes of its arrays"
    assert said in capsys.readouterr().out


def test_a_file_that_fits_two_models_needs_a_name(of_an_npz, monkeypatch):
    module, fields = registry._MODELS[TINY]
    monkeypatch.setitem(registry._MODELS, "Mixer-twin/16", (module, fields | {"dropout": 0.1}))
    with pytest.raises(
        mixer.BadInput, match=f"Mixer-tiny/16, Mixer-twin/16: choose .*model='{TINY}'"
    ):
        mixer.load(of_an_npz[0])
    assert mixer.load(of_an_npz[0], model="Mixer-twin/16")[2].model["name"] == "Mixer-twin/16"


def test_a_model_that_is_not_square_resizes_its_images(tmp_path):
    params = drawn(tiny_model(), (32, 64))
    mixer.save_pretrained(tmp_path / "x.safetensors", params, tiny_model(), image_size=(32, 64))
    mixer.save_pretrained(tmp_path / "x.npz", params, tiny_model())  # no place for the size
    with pytest.raises(
        mixer.BadInput, match="8 patches of 16, not a square grid: .*pretrained_size="
    ):
        mixer.load(tmp_path / "x.npz")
    for ending, asked in (("safetensors", None), ("npz", (32, 64))):
        path = tmp_path / f"x.{ending}"
        model, loaded, card = mixer.load(path, pretrained_size=asked)
        images = mixer.preprocess(np.zeros((9, 9, 3), np.uint8), card)
        assert images.shape == (1, 32, 64, 3)
        assert model.apply({"params": loaded}, images).shape == (1, CLASSES)
        with pytest.raises(mixer.BadInput, match=r"pretrained_size=\(48, 48\)"):
            mixer.load(path, pretrained_size=48)


def test_the_resolution_of_a_convolutional_network_can_be_given(tmp_path, monkeypatch, capsys):
    module, fields = registry._MODELS["ConvNeXt-T"]
    fields = fields | {"num_blocks": (1, 1, 1, 1), "widths": (8, 8, 8, 8)}
    monkeypatch.setitem(registry._MODELS, "ConvNeXt-tiny", (module, fields))
    model = mixer.create_model("ConvNeXt-tiny", 3)
    mixer.save_pretrained(tmp_path / "x.npz", drawn(model), model)
    assert mixer.load(tmp_path / "x.npz")[2].image_size == (224, 224)
    _, _, card = mixer.load(tmp_path / "x.npz", pretrained_size=288)
    assert card.image_size == (288, 288)
    assert "of 288 x 288 pixels" in capsys.readouterr().out


def test_assumptions_about_a_folder_are_printed(of_a_hub_folder, capsys):
    path, params = of_a_hub_folder
    (path / "config.json").write_text('{"architecture": "mixer_s32_224"}')
    model, loaded, card = mixer.load(path)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert model.gelu == "erf" and card.class_names == NUMBERS
    assert card.transform == "resize_small(73)|central_crop" and card.image_size == (64, 64)
    said = "does not record everything: assuming classes 0, 1, 2, 3, 4, ...; preprocessing resize_"
    assert f"{said}small(73)" in capsys.readouterr().out


def test_arrays_that_fit_no_registered_model_are_refused(of_an_npz, tmp_path):
    gap = mixer.create_model("ViT-S/32", 3, pooling="gap", num_blocks=1)
    mixer.save_pretrained(tmp_path / "gap.npz", drawn(gap), gap)
    with pytest.raises(mixer.BadInput, match="of a ViT, but of other shapes than ViT-B/16"):
        mixer.load(tmp_path / "gap.npz")
    with np.load(of_an_npz[0]) as content:
        rest = {name: array for name, array in content.items() if name != "stem/bias"}
    np.savez(tmp_path / "part.npz", **rest)
    with pytest.raises(mixer.BadInput, match="does not fit the model: missing: stem/bias"):
        mixer.load(tmp_path / "part.npz")


def test_bad_arguments_are_refused(of_a_workdir, of_an_npz, tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.ones(3, np.float32))
    for message, path, asked in (
        (f"{TINY}; leave it out", of_a_workdir[0], {"model": TINY}),
        (r"for \(64, 64\); leave it out", of_a_workdir[0], {"pretrained_size": 32}),
        ("unknown model 'Mixer-tini/16'. Did you mean", of_an_npz[0], {"model": "Mixer-tini/16"}),
        ("has no ViT parameters", of_an_npz[0], {"model": "ViT-B/16"}),
        ("only a workdir has steps and averaged", of_an_npz[0], {"step": 3}),
        ("only a workdir has steps and averaged", of_an_npz[0], {"ema": True}),
        ("no checkpoint of step 3; it has", of_a_workdir[0], {"step": 3}),
        ("no known parameters: expected .* found weights", tmp_path / "other.npz", {}),
        ("there is no such file", tmp_path / "none.npz", {}),
        ("not the workdir .* neither a file nor a published name", tmp_path / "none", {}),
        ("unknown published model", f"{TINY}:none", {}),
        ("meant: Mixer-B/16:timm.miil_in21k$", "mixer_b16_224.miil_in21k", {}),
        ("meant: hf://timm/mixer_x9_224.none$", "timm/mixer_x9_224.none", {}),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            mixer.load(path, **asked)
    model, params, _ = mixer.load(of_an_npz[0])
    for call, found in (
        (lambda: mixer.load(None), "NoneType"),
        (lambda: mixer.load_pretrained(model, params), "dict"),
        (lambda: mixer.load_pretrained(TINY, TINY), "str"),
        (lambda: mixer.at_resolution(TINY, 64, 32), "str"),
    ):
        with pytest.raises(TypeError, match=f"expected .*{found}|{found}: expected a module"):
            call()


def test_the_readmes_example_runs(monkeypatch, capsys):
    root = Path(__file__).parents[1]
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "mixer.load(" in block)
    monkeypatch.chdir(root)
    exec(code, {})
    predicted = ast.literal_eval(capsys.readouterr().out)
    files = sorted((root / "notebooks" / "images").glob("*.png"))
    # The test images of CIFAR-10 that come with the notebook, named as they are labelled.
    assert sum(file.stem == name for file, name in zip(files, predicted, strict=True)) >= 6
