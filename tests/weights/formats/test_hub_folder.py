"""Hub folders: what timm 1.0.31 reads from ours, and what we read from timm's."""

import json
import math

import jax
import numpy as np
import pytest
import yaml

import mixer
from mixer.checkpoint.model_card import ModelCard
from mixer.data import transforms
from mixer.weights import fitting, saving
from mixer.weights.formats import hub_folder, hub_page
from tools.timm_parity import CASES

SIZE = (32, 64)


def model(**fields):
    small = {"tokens_mlp_dim": 7, "channels_mlp_dim": 13}
    return mixer.create_model("Mixer-S/32", **({"num_classes": 3} | small | fields))


def card(transform="resize", image_size=SIZE, **changes):
    facts = {"classes": ("a", "b", "c"), "dataset": "folder:/home/me/pets"} | changes
    return ModelCard({"name": "Mixer-S/32"}, image_size, transform, **facts)


def params(of):
    shapes = fitting.shapes(of, SIZE)
    return jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes)


def test_the_folder(tmp_path):
    folder = tmp_path / "pets"
    saving.save_folder(f"{folder}/", params(model()), model(), card())
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
    assert "approximate" not in hub_page.readme("x", model(gelu="erf"), card(), config)
    with pytest.raises(mixer.BadInput, match="cannot be written"):
        saving.save_folder(f"{folder}/", params(model()), model(), card())


def test_a_refused_folder_leaves_nothing(tmp_path):
    for weights, of, message in (
        (params(model()), model(hidden_dim=500), r"only with \(32, 8, 512\), "),
        (params(model()), model(num_blocks=8, num_classes=4), "the model needs"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            saving.save_folder(f"{tmp_path}/new/", weights, of, card())
    assert not list(tmp_path.iterdir())


def test_timms_rounding_gives_our_numbers():
    for width in range(1, 5000):
        for of in (512, 768, 1024):
            assert int(hub_page._ratio(width, of) * of) == width
    for size in range(16, 900, 16):
        for resized in (round(size * 8 / 7), *range(size, 2 * size, 5)):
            crop = hub_page.crop(card(f"resize_small({resized})|central_crop", (size, size)))
            assert math.floor(size / crop["crop_pct"]) == resized and crop["crop_mode"] == "center"
    assert hub_page.crop(card("resize"))["crop_mode"] == "squash"
    assert hub_page.crop(card("central_crop")) == {}


@pytest.mark.parametrize("entry", [e for e in mixer.list_pretrained() if e.figures])
def test_settings_from_timm_are_written_back_unchanged(entry):
    """crop_pct, interpolation and mean in timm's own configuration of these weights."""
    of = mixer.create_model(entry.model, entry.classes)
    made = hub_page.describe(of, card(entry.transform, entry.image_size))["pretrained_cfg"]
    assert made["crop_pct"] == 0.875 and made["interpolation"] == "bicubic"
    assert hub_page.describe(of, card("resize"))["pretrained_cfg"]["interpolation"] == "bilinear"


def test_timm_has_every_size_of_the_paper_but_h():
    levels = mixer.list_models("Mixer-*", verbose=True).items()
    for name in [name for name, level in levels if level != "nothing"]:
        if name == "Mixer-H/14":
            continue
        found = hub_page.describe(mixer.create_model(name, 1000), card())
        size, patch = name.removeprefix("Mixer-").lower().split("/")
        assert found["architecture"] == f"mixer_{size}{patch}_224"
        assert found["model_args"]["mlp_ratio"] == [0.5, 4.0]
    with pytest.raises(mixer.BadInput, match="can have a model of Mixer, .* this one is a HaloNet"):
        hub_page.describe(mixer.create_model("HaloNet-H0", 1000), card())
    with pytest.raises(mixer.BadInput, match=r"timm has no ViT with .*\(16, 3, 192, 768, 3\)"):
        hub_page.describe(mixer.create_model("ViT-Ti/16", 5, num_blocks=3), card())
    with pytest.raises(mixer.BadInput, match=r"\(14, 32, 1280\).*\.safetensors"):
        hub_page.describe(mixer.create_model("Mixer-H/14", 1000), card())


@pytest.mark.parametrize(("architecture", "name"), hub_folder.ARCHITECTURES.items())
def test_what_is_read_from_timm_is_written_under_the_same_name(architecture, name):
    made = hub_page.describe(mixer.create_model(name, 7), card())
    assert made["architecture"].removesuffix("_224") == architecture
    imagenet = name.startswith(("ResMLP", "ConvNeXt", "NFNet"))  # normalise by themselves
    assert (made["pretrained_cfg"]["mean"][0] == 0.485) == imagenet
    assert ("img_size" in made["model_args"]) == made["pretrained_cfg"]["fixed_input_size"]
    assert ("std_conv_eps" in made["model_args"]) == name.startswith("NFNet")
    page = hub_page.readme("x", mixer.create_model(name, 7), card(), made, repo="lab/x")
    assert f"hf-hub:{'lab/x'}" in page and "arXiv" in page


def test_a_vit_without_a_class_token_is_read_as_one(tmp_path):
    of = mixer.create_model("ViT-Ti/16", 3, pooling="gap", gelu="erf")
    weights = jax.tree.map(lambda s: np.ones(s.shape, np.float32), fitting.shapes(of, SIZE))
    saving.save_folder(f"{tmp_path}/vit/", weights, of, card())
    loaded, again, _ = mixer.load(tmp_path / "vit")
    assert loaded == of
    jax.tree.map(np.testing.assert_array_equal, again, weights)


def test_the_page_has_what_is_known():
    config = hub_page.describe(model(), card())
    page = hub_page.readme("x", model(), card(), config)
    other = hub_page.readme("x", model(), card("resize(48)|central_crop"), config)
    assert ("timm has no terms" in page, "timm has no terms" in other) == (False, True)
    assert "license" not in page and "| measure" not in page and "local-dir:x" in page
    facts = {"license": "apache-2.0", "measured": {"test/top1": 0.12345}}
    page = hub_page.readme("x (1)", model(), card(dataset="folder:/a/pets/"), config, **facts)
    assert "trained on pets." in page
    assert 'create_model("local-dir:x (1)", pretrained=True, act_layer=gelu)\n' in page
    front, _, _ = page.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front)["license"] == "apache-2.0" and "| test/top1 | 0.1235 |" in page


def timm_folder(path, weights=None, of=None, **config):
    """A folder as timm writes it, by default of `model()` for images of `SIZE`."""
    path.mkdir()
    of = of or model()
    weights = params(of) if weights is None else weights
    mixer.save_pretrained(path / "model.safetensors", weights, of)
    cfg = {"input_size": [3, *SIZE], "crop_pct": 0.875, "interpolation": "bicubic"}
    cfg |= {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "center"}
    cfg |= config.pop("pretrained_cfg", {})
    content = {"architecture": "mixer_s32_224", "pretrained_cfg": cfg} | config
    (path / "config.json").write_text(json.dumps(content))
    return path


def test_a_written_folder_can_be_read(tmp_path, capsys):
    """Including what timm has no terms for: the preprocessing, the form of GELU, sigmoids."""
    written = card("resize(48)|central_crop", multi_label=True, decoding="tensorflow")
    saving.save_folder(f"{tmp_path}/pets/", params(model()), model(), written)
    page = (tmp_path / "pets" / "README.md").read_text()
    assert "Classes: 3, any number of them for an image: sigmoid" in page
    found = hub_folder.find(f"{tmp_path}/pets")
    assert found.model == "Mixer-S/32" and found.gelu == "tanh" and not found.remarks
    assert (found.transform, found.image_size) == (written.transform, written.image_size)
    assert found.class_names == written.classes
    loaded = mixer.load_pretrained(tmp_path / "pets", model(), image_size=(32, 32))
    square = mixer.at_resolution(model(), 32, SIZE, "auto")
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, at(square, (32, 32)))
    assert capsys.readouterr().out == ""
    _, _, read = mixer.load(tmp_path / "pets")
    assert read.outputs == "sigmoid" and read.decoding == "tensorflow"


def at(of, size):
    return jax.tree.map(lambda s: np.zeros(s.shape), fitting.shapes(of, size))


def test_timms_terms(tmp_path):
    square = {"input_size": [3, 64, 64]}
    folder = timm_folder(tmp_path / "a", label_names=["x", "y", "z"], pretrained_cfg=square)
    found = hub_folder.find(str(folder))
    assert found.gelu == "erf" and found.class_names == ("x", "y", "z") and not found.remarks
    assert found.transform == "resize_small(73, method='bicubic')|central_crop"
    small = "resize_small(73)|central_crop"
    squashed = {"crop_mode": "squash", "crop_pct": 1.0}
    for number, (cfg, transform, remark) in enumerate(
        (
            (square | squashed | {"interpolation": "bilinear"}, "resize", ""),
            (squashed, "resize", "resized by 'bicubic', but bilinearly"),
            (square | {"interpolation": "bilinear"}, small, ""),
            (square | {"interpolation": "lanczos"}, small, "resized by 'lanczos', but by area"),
            (square | {"crop_mode": "border"}, found.transform, "'border' is not supported"),
            ({}, "resize((36, 73))|central_crop", "keep their ratio"),
        )
    ):
        found = hub_folder.find(str(timm_folder(tmp_path / str(number), pretrained_cfg=cfg)))
        assert found.transform == transform and remark in "".join(found.remarks)
        assert bool(remark) == bool(found.remarks)
        transforms.parse(found.transform, found.image_size)
    known = {variant for name, variant in hub_folder.ARCHITECTURES.items()}
    assert known <= set(mixer.list_models())


def test_another_normalisation_is_folded_into_the_stem(tmp_path):
    mean, std = [0.48, 0.45, 0.4], [0.22, 0.23, 0.24]
    rng = np.random.default_rng(0)
    weights = jax.tree.map(
        lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), params(model())
    )
    folder = timm_folder(tmp_path / "a", weights, pretrained_cfg={"mean": mean, "std": std})
    pixels = rng.integers(0, 256, (2, *SIZE, 3)).astype(np.float32)
    loaded = mixer.load_pretrained(folder, model())
    ours = model().apply({"params": loaded}, pixels / 127.5 - 1)
    theirs = (pixels / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    theirs = model().apply({"params": weights}, theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ("ResMLP", "BiT"))
def test_families_that_normalise_by_themselves_or_cannot(name, tmp_path):
    case = CASES[name]
    architecture = {"ResMLP": "resmlp_12_224", "BiT": "resnetv2_50x1_bit"}[name]
    for number, (mean, std, fits) in enumerate(
        (
            ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], name == "ResMLP"),
            ([0.5] * 3, [0.5] * 3, name == "BiT"),
        )
    ):
        folder = timm_folder(
            tmp_path / str(number),
            case.params(),
            case.model,
            architecture=architecture,
            pretrained_cfg={"mean": mean, "std": std, "input_size": [3, *case.image_size]},
        )
        if name == "BiT" and not fits:  # its first convolution is standardised and padded
            with pytest.raises(mixer.BadInput, match="cannot be folded into the stem of a BiT"):
                mixer.load_pretrained(folder, case.model)
        else:
            loaded = mixer.load_pretrained(folder, case.model)
            same = jax.tree.map(np.array_equal, loaded, case.params())
            assert all(jax.tree.leaves(same)) == fits


def test_a_size_that_contradicts_the_arrays_is_reported(tmp_path, capsys):
    cfg = {"input_size": [3, 224, 224]}
    folder = timm_folder(tmp_path / "a", pretrained_cfg=cfg)
    mixer.load_pretrained(folder, model(), image_size=SIZE)
    out = capsys.readouterr().out
    assert "says that it is for 224 x 224 pixels, but has weights for 2 patches of 32" in out
    assert "assuming 1 x 2, of 32 x 64 pixels" in out


def test_other_folders_are_refused(tmp_path):
    weightless, torch = tmp_path / "weightless", tmp_path / "torch"
    for folder in (weightless, torch):
        folder.mkdir()
        (folder / "config.json").write_text('{"architecture": "mixer_s32_224"}')
    (torch / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    bare = timm_folder(tmp_path / "bare")
    (bare / "config.json").unlink()
    broken = timm_folder(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    strange = {"input_size": [3, "large", "larger"]}
    for folder, message in (
        (weightless, "has no model.safetensors: it is incomplete"),
        (
            torch,
            r"has no model.safetensors: convert .* weights_only=True.*torch/model.safetensors$",
        ),
        (bare, "has model.safetensors but no config.json: give"),
        (broken, "config.json' cannot be read"),
        (timm_folder(tmp_path / "a", architecture="mixer_s31_224"), "Did you mean 'mixer_s32'"),
        (timm_folder(tmp_path / "b", architecture=None), "names no timm architecture: give"),
        (
            timm_folder(tmp_path / "c", architecture=None, model_type="vit"),
            "it is from transformers",
        ),
        (timm_folder(tmp_path / "d", pretrained_cfg=strange), "does not have timm's form"),
        (timm_folder(tmp_path / "e", pretrained_cfg={"crop_pct": 0}), "does not have timm's form"),
    ):
        with pytest.raises(mixer.BadInput, match=message) as error:
            mixer.load_pretrained(folder, model())
        assert "\n" not in str(error.value)
    (tmp_path / "workdir").mkdir()
    (tmp_path / "workdir" / "config.json").write_text("{}")
    assert hub_folder.find(str(tmp_path / "workdir")) is None
    (bare / "checkpoints").mkdir()
    assert hub_folder.find(str(bare)) is None
