"""A Mixer's older names, and names that are not a Mixer's."""

import jax
import numpy as np
import pytest

import mixer
from mixer.models.mixer import Mixer
from mixer.weights import fitting, formats


def model(blocks=2, **fields):
    sizes = {"hidden_dim": 8, "tokens_mlp_dim": 10, "channels_mlp_dim": 16}
    return Mixer(**({"num_classes": 5, "patch_size": 4, "num_blocks": blocks} | sizes | fields))


def older(params, second="LayerNorm_2"):
    """Our tree in the older internal format: other names, extra axes of length 1."""
    flat = {
        "embedding/kernel": params["stem"]["kernel"],
        "embedding/bias": params["stem"]["bias"],
        "Mixer/encoder_norm/scale": params["pre_head_layer_norm"]["scale"],
        "Mixer/encoder_norm/bias": params["pre_head_layer_norm"]["bias"],
        "head/kernel": params["head"]["kernel"],
        "head/bias": params["head"]["bias"],
    }
    for name in (name for name in params if name.startswith("MixerBlock_")):
        block, to = params[name], name.replace("MixerBlock_", "Mixer/encoderblock_")
        for norm, called in (("LayerNorm_0", "LayerNorm_0"), ("LayerNorm_1", second)):
            flat |= {f"{to}/{called}/{leaf}": value for leaf, value in block[norm].items()}
        for kind in ("token", "channel"):
            for number, dense in enumerate(("Dense_0", "Dense_1"), 1):
                for leaf, value in block[f"{kind}_mixing"][dense].items():
                    flat[f"{to}/{kind}_mixing_phase_0/{leaf}{number}"] = value[None]
    return flat


def random_params(of):
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(of, (8, 12))
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("second", ("LayerNorm_1", "LayerNorm_2", "LayerNorm_12"))
def test_the_older_internal_names(second, tmp_path):
    params = random_params(model(12))
    np.savez(tmp_path / "older.npz", **older(params, second))
    loaded = mixer.load_pretrained(tmp_path / "older.npz", model(12))
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_older_files_with_gaps_are_not_renumbered(tmp_path):
    flat = older(random_params(model(12)))
    lost = {name: v for name, v in flat.items() if "encoderblock_7/" not in name}
    twice = flat | {"Mixer/encoderblock_3/LayerNorm_5/bias": np.zeros(8, np.float32)}
    strange = flat | {"Mixer/encoderblock_03/LayerNorm_0/bias": np.zeros(8, np.float32)}
    for content, message in (
        (lost, "the older internal names.*: missing: MixerBlock_7$"),
        (twice, "two arrays for MixerBlock_3/LayerNorm_1/bias, .* as .*LayerNorm_5"),
        (strange, "not in the model: Mixer/encoderblock_03/LayerNorm_0/bias$"),
    ):
        np.savez(tmp_path / "bad.npz", **content)
        with pytest.raises(mixer.BadInput, match=message):
            mixer.load_pretrained(tmp_path / "bad.npz", model(12))


@pytest.mark.parametrize("family", ("vit", "resmlp"))
def test_timms_other_families_are_refused(family, tmp_path):
    of_family = {"vit": "blocks.0.attn.qkv.weight", "resmlp": "blocks.0.linear_tokens.weight"}
    zeros = np.zeros((4, 4), np.float32)
    content = {"blocks.0.norm1.weight": zeros[0], "norm.weight": zeros[0], of_family[family]: zeros}
    formats.write(tmp_path / "other.safetensors", content)
    with pytest.raises(
        mixer.BadInput, match=f"has no Mixer parameters.* found {of_family[family]}"
    ):
        mixer.load_pretrained(tmp_path / "other.safetensors", model())
