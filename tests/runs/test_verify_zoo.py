"""Published weights against their published accuracies, with a fake file."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tfds_stand_ins as stand_ins
from stand_in import serve

import mixer
from configs import imagenet, quickstart
from mixer import errors
from mixer.models import registry
from mixer.runs import verify_zoo
from mixer.weights import fitting, zoo

NAME = "Mixer-tiny/16:stand-in"
# Accuracies of the fake model. It always predicts class 45: right for one of the 16 images, and by
# ReaL for one of the 12 that have labels. ImageNet-A lacks that class; there it predicts 15.
FIGURES = {"val": 1 / 16, "real": 1 / 12, "v2": 0.5, "a": 0.4, "r": 0.5, "sketch": 0.5}


@pytest.fixture
def figures(tmp_path, monkeypatch):
    """Published accuracies of a model, which tests may change."""
    module, fields = registry._MODELS["Mixer-S/16"]
    fields = fields | {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
    monkeypatch.setitem(registry._MODELS, "Mixer-tiny/16", (module, fields))
    model = mixer.create_model("Mixer-tiny/16", 1000)
    params = jax.tree.map(lambda s: np.ones(s.shape, np.float32), fitting.shapes(model, (32, 32)))
    params["head"]["kernel"] *= 0
    params["head"]["bias"][[15, 45]] = 3, 4
    mixer.save_pretrained(tmp_path / "weights.safetensors", params, model)
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    with serve((tmp_path / "weights.safetensors").read_bytes()) as server:
        entry = dataclasses.replace(
            zoo.PUBLISHED["Mixer-B/16:timm.goog_in21k_ft_in1k"],
            name=NAME,
            model="Mixer-tiny/16",
            url=server.url("model.safetensors"),
            image_size=(32, 32),
            transform="resize_small(36, method='bicubic')|central_crop(32)",
            figures=dict(FIGURES),
        )
        monkeypatch.setitem(zoo.PUBLISHED, NAME, entry)
        yield entry.figures


@pytest.fixture
def config(data_dir, tmp_path):
    """ImageNet, ReaL's labels and ImageNet-A exist, the other sets do not."""
    config = imagenet.get_config("")
    config.update(run="verify_zoo", init_from=NAME)
    config.runtime.data_dir = str(tmp_path / "data")
    (tmp_path / "data").mkdir()
    for name in ("imagenet2012", "real.json"):
        (tmp_path / "data" / name).symlink_to(data_dir / name)
    examples = stand_ins.examples_of("imagenet_a", 5)
    for example, label in zip(examples, (15, 15, 6, 11, 13), strict=True):
        example["label"] = label
    stand_ins.write(tmp_path / "data", "imagenet_a", {"test": examples})
    for entry in config.evaluators.values():
        entry.batch_size = 8
    return config


def metrics(workdir):
    return json.loads((workdir / "results.json").read_text())["metrics"]


def test_accuracies_that_match(config, figures, tmp_path, capsys):
    verify_zoo.run(config, str(tmp_path / "out"), "imagenet")
    found = metrics(tmp_path / "out")
    for name in ("val", "real", "a"):
        assert found[f"{NAME}/{name}/top1"] == pytest.approx(FIGURES[name], abs=1e-6)
        assert found[f"{NAME}/{name}/published"] == FIGURES[name]
        assert found[f"{NAME}/{name}/passed"] is True
    assert not any(name in key for name in ("v2", "/r/", "sketch") for key in found)
    out = capsys.readouterr().out
    for name in ("v2", "r", "sketch"):
        assert f"config.evaluators.{name} is left out: dataset 'imagenet_{name}" in out
    assert "val               16     6.250     6.250  pass\n" in out
    assert "resize_small(36, method='bicubic')|central_crop(32)" in out


def test_an_accuracy_that_does_not_match_fails_each_time(config, figures, tmp_path, capsys):
    figures["val"] += 0.0009
    figures["a"] -= 0.0011
    for _ in range(2):
        with pytest.raises(errors.Failure, match=f"1 of 3 .* within 0.1 .*: {NAME}/a$"):
            verify_zoo.run(config, str(tmp_path / "out"), "imagenet")
    assert metrics(tmp_path / "out")[f"{NAME}/val/passed"] is True
    assert metrics(tmp_path / "out")[f"{NAME}/a/passed"] is False
    out = capsys.readouterr().out
    assert "a                  5    40.000    39.890  FAIL\n" in out and "nothing to do" in out


def test_what_cannot_be_verified_is_refused(config, figures, tmp_path):
    out = tmp_path / "out"
    config.init_from = "Mixer-B/16:imagenet1k"
    with pytest.raises(errors.BadInput, match="name with figures 'Mixer-B/16:imagenet1k'"):
        verify_zoo.run(config, str(out), "imagenet")
    other = quickstart.get_config("")
    with pytest.raises(errors.BadInput, match="evaluators.val: use --config=configs/imagenet.py"):
        verify_zoo.run(other, str(out), "quickstart")
    config.init_from = NAME
    (tmp_path / "data" / "imagenet2012").unlink()
    with pytest.raises(errors.Missing, match="dataset 'imagenet2012' is not prepared"):
        verify_zoo.run(config, str(out), "imagenet")
    assert not out.exists() and not (tmp_path / "cache").exists()


def test_all_models_with_published_accuracies_are_measured_by_default():
    found = [entry for entry in mixer.list_pretrained() if entry.figures]
    assert [entry.model for entry in found] == ["Mixer-B/16", "Mixer-L/16"]
    for entry in found:
        assert entry.top1 == entry.figures["val"] and set(entry.figures) == set(FIGURES)
        assert set(entry.figures) <= set(imagenet.get_config("").evaluators)
        assert "bicubic" in entry.transform and entry.gelu == "erf"
