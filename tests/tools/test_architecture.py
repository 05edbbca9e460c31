"""The drawing of the Mixer."""

import re
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp

import mixer
from tools import architecture


def test_the_file_is_what_the_script_draws():
    assert architecture.PATH.read_text() == architecture.drawing()


def test_it_names_the_models_parameters():
    """All the modules that hold any, and nothing else of such a name."""
    model = mixer.create_model("Mixer-Ti/4", 10, num_blocks=1)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    paths = jax.tree_util.tree_leaves_with_path(params)
    modules = {key.key for path, _ in paths for key in path[:-1]}
    words = [each.text or "" for each in ElementTree.fromstring(architecture.drawing()).iter()]
    shown = set(re.findall(r"\w*[a-z]_\w+|stem|head", " ".join(words[2:])))
    assert {name.replace("MixerBlock_0", "MixerBlock_i") for name in modules} <= shown
    assert shown - {"num_blocks", "num_classes"} <= modules | {"MixerBlock_i"}
