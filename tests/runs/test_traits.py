"""A family's traits belong to its class, whatever name a model is registered under."""

import dataclasses
import importlib
import sys

import jax
import numpy as np
import pytest

import mixer
from mixer import recognition
from mixer.models import registry
from mixer.models.nfnet import NFNet
from mixer.models.registry import Traits
from mixer.runs import keys
from mixer.runs.imports import import_modules
from mixer.weights import fitting
from mixer.weights.formats import names

# {meaningless name: the model that is registered under it}
TWINS = {
    "Tiny-NF": "NFNet-F0",
    "Affine": "ResMLP-S24",
    "Gated": "gMLP-Ti",
    "Next": "ConvNeXt-S",
    "Transfer": "BiT-R152x1",
    "Large": "ViT-L/16",
    "Paper": "Mixer-B/16",
}
MINE = f"""
import mixer
from flax import linen as nn
from mixer.models import registry
from mixer.models.nfnet import NFNet

for name, ours in {TWINS}.items():
    mixer.register_model(name, registry._lookup(ours)[0], **registry.model_fields(ours))


class Own(nn.Module):
    num_classes: int
    stochastic_depth: float = 0.0

    def __call__(self, images, train=False):
        return nn.Dense(self.num_classes, name="head")(images.mean((1, 2)))


class Derived(NFNet):
    pass


traits = mixer.Traits(agc=0.02, uniform_depth=True, square_on_imagenet=True)
mixer.register_model("Own-0", Own, traits=traits)
mixer.register_model("Own-1", Own, stochastic_depth=0.3)
mixer.register_model("Derived", Derived, num_blocks=(1, 1), widths=(8, 16))
"""
RECIPES = {
    "imagenet": "",
    "imagenet21k": "",
    "jft": "",
    "finetune": "",
    "vtab": "cifar100",
    "folder": "digits",
    "quickstart": "",
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The module's models, registered for this test only."""
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    monkeypatch.setattr(registry, "_VERIFIED", dict(registry._VERIFIED))
    (tmp_path / "named_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "named_mine", None)
    del sys.modules["named_mine"]
    import_modules("named_mine")


def config_of(recipe, *words):
    return importlib.import_module(f"configs.{recipe}").get_config(",".join(filter(None, words)))


def resolved(recipe, *words):
    config = keys.flat(keys.as_json(config_of(recipe, *words)))
    del config["model.name"]
    return config


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_renamed_model_trains_like_the_original(recipe, mine):
    for twin, ours in TWINS.items():
        assert resolved(recipe, twin, RECIPES[recipe]) == resolved(recipe, ours, RECIPES[recipe])


def test_a_renamed_model_has_the_originals_names_in_files(mine, tmp_path):
    for twin, ours in TWINS.items():
        one, other = (registry.create_model(name, 2) for name in (twin, ours))
        assert names.family_of(one) is names.family_of(other) is not None
    small = registry.create_model("Affine", 2, num_blocks=1)
    shapes = fitting.shapes(small, (224, 224))
    params = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    mixer.save_pretrained(tmp_path / "a.safetensors", params, small)
    flat = recognition.parameters(str(tmp_path / "a.safetensors"), "a")
    assert "blocks.0.linear_tokens.weight" in flat


def test_a_family_of_your_own_brings_its_traits(mine):
    config = config_of("imagenet21k", "Own-0")
    assert config.optimizer.agc == 0.02 and config.model.stochastic_depth == 0.05
    assert config_of("imagenet", "Own-1").model.stochastic_depth == 0.3  # its own rate
    tuned = config_of("finetune", "Own-1")
    assert tuned.evaluators.test.transform == "resize(256)|central_crop"
    assert config_of("finetune", "Own-1", "cifar10").evaluators.test.transform == (
        "resize_small(256)|central_crop"
    )
    assert names.family_of(registry.create_model("Own-0", 2)) is None
    assert registry.traits("Derived") == NFNet.traits
    assert config_of("jft", "Derived").optimizer.agc == 0.01


def test_traits_belong_to_a_family_not_to_a_size(mine):
    with pytest.raises(ValueError, match="NFNet has .*derive a class from it for Traits"):
        mixer.register_model("Unclipped", NFNet, traits=Traits(), num_blocks=(1,), widths=(8,))
    assert "Unclipped" not in mixer.list_models()
    others = dataclasses.replace(NFNet.traits, agc=0.0)
    derived = type("Unclipped", (NFNet,), {"traits": others})
    mixer.register_model("Unclipped", derived, num_blocks=(1,), widths=(8,))
    assert config_of("jft", "Unclipped").optimizer.agc == 0.0
