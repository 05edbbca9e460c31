"""Every registered model against counts.json: parameters, output, multiply-accumulates.

The file holds the counts of published code (timm, vision_transformer, big_vision) where there is
any, else of the papers' tables: 1,000 classes, with and without the head, GMACs at `resolution`.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxpr_as_fun

import mixer
from mixer.models import registry
from mixer.planning import flops

COUNTS = json.loads((Path(__file__).parent / "counts.json").read_text())
FIXTURES = Path(__file__).parent / "fixtures"
# How far the tests show each family to be the published one.
VERIFIED = {
    "Mixer": "other implementation",
    "ViT": "other implementation",
    "BiT": "other implementation",
    "ResMLP": "other implementation",
    "gMLP": "other implementation",
    "ConvNeXt": "other implementation",
    "NFNet": "other implementation",
    "NFNet-F4+": "counts",  # its grouping is not timm's
    "HaloNet": "counts",
}


ABLATIONS = ("Untied", "Grouped", "Views", "Pyramid")
# Those of appendix A and the smallest Mixer were never published.
PUBLISHED = [name for name, level in mixer.list_models(verbose=True).items() if level != "nothing"]


def family(name):
    return name.partition("-")[0]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def output(model, params, images):
    return jax.eval_shape(lambda p, x: model.apply({"params": p}, x), params, images)


def test_every_model_has_its_counts():
    families = set(map(family, PUBLISHED))
    assert set(PUBLISHED) == {name for name in COUNTS if family(name) in families}


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_counts(name):
    entry = COUNTS[name]
    model = mixer.create_model(name, num_classes=1000)
    images = jax.ShapeDtypeStruct((2, entry["resolution"], entry["resolution"], 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert count(params) == entry["params"]
    model = model.clone(scan=True)  # is traced sooner
    apply = lambda p, x: model.apply({"params": p}, x)
    traced, logits = jax.make_jaxpr(apply, return_shape=True)(params, images)
    assert (logits.shape, logits.dtype) == ((2, 1000), jnp.float32)
    gmacs = flops.macs(jaxpr_as_fun(traced), *jax.tree.leaves((params, images))) / 2e9
    assert gmacs == pytest.approx(entry["gmacs"], rel=0.01)
    del params["head"]
    assert count(params) == entry["without_head"]
    features = output(model.clone(num_classes=0), params, images)
    assert (features.shape, features.dtype) == ((2, entry["features"]), jnp.float32)


def test_table_1():
    """In millions, without the head; it rounds 59.5 to 60 and 205.9 to 206."""
    sizes = ("S/32", "S/16", "B/32", "B/16", "L/32", "L/16", "H/14")
    found = [round(COUNTS[f"Mixer-{size}"]["without_head"] / 1e6) for size in sizes]
    assert found == [19, 18, 60, 59, 206, 207, 431]


def test_models_by_a_pattern():
    mixers = [name for name in mixer.list_models() if name.startswith("Mixer-")]
    assert mixer.list_models("Mixer-*") == mixer.list_models("mixer-*") == mixers
    assert len(mixers) == 8 and mixer.list_models("Mixer-B/16") == ["Mixer-B/16"]
    found = mixer.list_models("Mixer-?/14", verbose=True)
    assert found == {"Mixer-H/14": VERIFIED["Mixer"]}
    with pytest.raises(mixer.BadInput, match=r"'Mixr-B\*'. Did you mean 'Mixer-B/"):
        mixer.list_models("Mixr-B*")
    with pytest.raises(TypeError, match="verbose=True by name"):
        mixer.list_models(True)


def test_how_far_each_model_is_verified():
    known = {name: VERIFIED.get(name, VERIFIED[family(name)]) for name in PUBLISHED}
    others = [name for name in mixer.list_models() if name not in known]
    assert mixer.list_models(verbose=True) == known | dict.fromkeys(others, "nothing")
    assert set(map(family, others)) == {"Mixer", *(f"{kind}Mixer" for kind in ABLATIONS)}
    for name, level in VERIFIED.items():
        assert level in registry.LEVELS
        if level == "other implementation":
            assert (FIXTURES / f"{name}.npz").exists(), "see tools/timm_parity.py"
    with pytest.raises(ValueError, match="verified='fully': expected one of weights, other imp"):
        mixer.register_model("Mine", object, verified="fully")
