"""The table of published Mixers, and parameters fetched by name."""

import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from stand_in import serve

import mixer
from mixer.data import transforms
from mixer.models.mixer import Mixer
from mixer.weights import download, fitting, formats, located, zoo

ROOT = Path(__file__).parents[2]
OURS = zoo.PUBLISHED["Mixer-Ti/4:cifar10"]


def tiny(**more):
    fields = {"num_classes": 5, "patch_size": 4, "num_blocks": 1, "hidden_dim": 8}
    return Mixer(**fields | {"tokens_mlp_dim": 6, "channels_mlp_dim": 16} | more)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """`tiny`'s parameters as "Mixer-tiny:stand-in", and the entry; images are 8 x 8."""
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(tiny(), (8, 8))
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)
    mixer.save_pretrained(tmp_path / "weights.npz", params, tiny())
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    with serve((tmp_path / "weights.npz").read_bytes()) as server:
        entry = dataclasses.replace(
            zoo.PUBLISHED["Mixer-B/16:imagenet1k"],
            name="Mixer-tiny:stand-in",
            url=server.url(),
            image_size=(8, 8),
        )
        monkeypatch.setitem(zoo.PUBLISHED, entry.name, entry)
        yield params, entry


@pytest.mark.parametrize("entry", mixer.list_pretrained(), ids=lambda entry: entry.name)
def test_every_entry_is_consistent(entry):
    size = entry.name.partition(":")[0].removeprefix("Mixer-")
    model = mixer.create_model(entry.model, entry.classes)
    if size != "S/8":  # not a model of the paper
        assert entry.model == f"Mixer-{size}" and model.patch_size == entry.patch_size
    assert size.endswith(f"/{entry.patch_size}") and entry.gelu in ("tanh", "erf")
    assert not any(side % entry.patch_size for side in entry.image_size)
    transforms.parse(entry.transform, entry.image_size)
    assert entry.source and (entry.top1 is None or 0.5 < entry.top1 < 1)
    if entry == OURS:
        return
    files = {"official": f"Mixer-{size.replace('/', '_')}.npz", "timm": "model.safetensors"}
    assert download.cache_path(download.url_of(entry.url)).name == files[entry.layout]
    # ImageNet figures only for a head with ImageNet's classes.
    assert entry.top1 is None or entry.classes == 1000


def test_ours_comes_with_the_package(monkeypatch):
    monkeypatch.setattr(download, "fetch", None)  # nothing is fetched
    model = mixer.create_model(OURS.model, OURS.classes)
    params = mixer.load_pretrained(OURS.name, model, image_size=32, classes=OURS.class_names)
    assert sum(x.size for x in jax.tree.leaves(params)) == 337_226
    file = Path(OURS.url)
    assert file.stat().st_size <= 2_000_000
    beside = (file.parent / "README.md").read_text()
    assert OURS.name in beside and f"{OURS.top1:.2%}".replace("%", " %") in beside
    assert OURS.source in beside and (ROOT / OURS.source).exists()
    assert list(OURS.class_names) == sorted(
        OURS.class_names
    )  # like the folder that it was trained on


def test_no_file_is_listed_twice():
    assert len({entry.url for entry in mixer.list_pretrained()}) == len(mixer.list_pretrained())


def test_listed_by_a_pattern():
    everything = mixer.list_pretrained()
    assert mixer.list_pretrained("*") == everything == list(zoo.PUBLISHED.values())
    found = mixer.list_pretrained("*b/16*")
    assert found == [entry for entry in everything if "B/16" in entry.name] and len(found) > 3
    assert mixer.list_pretrained(OURS.name) == [OURS]
    with pytest.raises(
        mixer.BadInput, match=r"'Mixer-B/61'.*Did you mean .*contain it: '\*Mixer-B"
    ):
        mixer.list_pretrained("Mixer-B/61")
    with pytest.raises(TypeError, match="expected a pattern of names"):
        mixer.list_pretrained(True)


def test_names_and_near_misses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mixer.BadInput, match=r"'mixer-b/16:imagenet-21k'.* Did you mean 'Mixer-B/"):
        mixer.load_pretrained("mixer-b/16:imagenet-21k", tiny())
    with pytest.raises(mixer.BadInput, match=r"choose one of its files: Mixer-L/16:imagenet1k, "):
        zoo.find("Mixer-L/16")
    with pytest.raises(mixer.BadInput, match=r"of Mixer-B/8 are pub.* Nearest: Mixer-S/8:gsam;"):
        mixer.load("Mixer-B/8")
    (tmp_path / "a:b").mkdir()
    for path in ("a:b", "runs/mine", "weights.npz", "gs://bucket/run", "gs://bucket/run/"):
        assert located.locate(path) == located.Located(path)
    for path in ("https://host/weights.bin", "hf://org/repo/pytorch_model.bin"):
        with pytest.raises(mixer.BadInput, match=r"ends in \.npz or \.safetensors"):
            located.locate(path)


def test_load_by_name_and_by_address(published):
    params, entry = published
    for path in (entry.name, entry.url):
        loaded = mixer.load_pretrained(path, tiny())
        jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert "head" not in mixer.load_pretrained(entry.name, tiny(num_classes=0))


def test_another_gelu_is_reported(published, capsys):
    _, entry = published
    mixer.load_pretrained(entry.name, tiny(gelu="erf"))
    assert "is published with gelu='tanh'" in capsys.readouterr().out
    mixer.load_pretrained(entry.name, tiny())
    assert "gelu" not in capsys.readouterr().out


def test_another_range_of_the_input_is_folded_into_the_stem(published, monkeypatch):
    params, entry = published
    mean, std = 0.4, 0.2
    monkeypatch.setitem(zoo.PUBLISHED, entry.name, dataclasses.replace(entry, mean=mean, std=std))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    loaded = mixer.load_pretrained(entry.name, tiny())
    ours = tiny().apply({"params": loaded}, pixels / 127.5 - 1)
    theirs = tiny().apply({"params": params}, (pixels / 255 - mean) / std)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_other_paths_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "w.msgpack", "W.BIN"):
        (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "d.pt").mkdir()
    for path, message in (
        (
            "w.pth",
            r"is a pickle, .* never read: convert .*weights_only=True.* w.pth w.safetensors$",
        ),
        ("W.BIN", r"is a pickle, .* W.BIN W.safetensors$"),
        ("v.ckpt", "'v.ckpt': there is no such file"),
        ("w.msgpack", "expected a workdir, a Hub folder, or a file that ends in .npz or"),
        ("s3://bucket/w.npz", "expected an address that begins with one of gs://, hf://, https://"),
        ("a\0b.npz", "cannot be a path: .*null byte"),
        ("a" * 300, "cannot be a path: .*too long"),
        ("~nobody-is-called-so/w.npz", "cannot be a path"),
    ):
        with pytest.raises(mixer.BadInput, match=message) as error:
            located.locate(path)
        assert "\n" not in str(error.value) and "\0" not in str(error.value)
    assert located.locate("d.pt") == located.Located("d.pt")
    assert not located.locate("d.pt").is_file and located.locate("none.NPZ").is_file


def test_the_command_that_converts_a_pickle_works(tmp_path):
    """With a stand-in for torch, whose tensors have clone() and contiguous()."""
    (tmp_path / "torch.py").write_text(
        "class T:\n"
        "    clone = contiguous = lambda self: self\n"
        "def load(path, map_location, *, weights_only):\n"
        "    assert path == 'a b.pth' and map_location == 'cpu' and weights_only\n"
        "    return {'epoch': 3, 'state_dict': {'x': T()}}\n"
    )
    (tmp_path / "safetensors").mkdir()
    (tmp_path / "safetensors" / "__init__.py").write_text("")
    (tmp_path / "safetensors" / "torch.py").write_text(
        "def save_file(tensors, path):\n    open(path, 'w').write(' '.join(tensors))\n"
    )
    python, *arguments = shlex.split(formats.from_torch("a b.pth").partition("installed: ")[2])
    assert python == "python"
    env = {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "a b.safetensors").read_text() == "x"
