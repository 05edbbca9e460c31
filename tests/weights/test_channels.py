"""Weights for RGB in models of other images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixer
from mixer import errors
from mixer.models import registry
from mixer.weights import fitting

NAME = "Mixer-Ti/4:cifar10"  # which comes with the package


@pytest.fixture(scope="module")
def rgb():
    model, params, _ = mixer.load(NAME)
    return model, jax.device_get(params)


def images(channels):
    values = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, channels))
    return jnp.asarray(values, jnp.float32)


def apply(model, params, images):
    return np.asarray(jax.jit(model.apply)({"params": params}, images))


def test_a_grey_model_answers_as_the_rgb_one_to_equal_channels(rgb, capsys):
    model, params = rgb
    grey = model.clone(in_chans=1)
    adapted = mixer.load_pretrained(NAME, grey)
    assert "stem/kernel is for RGB; its channels are summed" in capsys.readouterr().out
    one = images(1)
    expected = apply(model, params, one.repeat(3, axis=-1))
    np.testing.assert_allclose(apply(grey, adapted, one), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 7])
def test_more_channels_repeat_the_three_at_one_scale(rgb, channels, capsys):
    """As timm's `adapt_input_conv` does; equal channels then give what they gave."""
    model, params = rgb
    wanted = model.clone(in_chans=channels)
    adapted = jax.device_get(mixer.load_pretrained(NAME, wanted, image_size=64))
    assert f"repeated for {channels} channels and scaled by 3/{channels}" in capsys.readouterr().out
    kernel = params["stem"]["kernel"]
    for channel in range(channels):
        np.testing.assert_allclose(
            adapted["stem"]["kernel"][:, :, channel],
            kernel[:, :, channel % 3] * 3 / channels,
            rtol=1e-6,
        )
    np.testing.assert_array_equal(adapted["stem"]["bias"], params["stem"]["bias"])


def test_weights_of_other_channels_are_kept_or_refused(rgb, tmp_path, capsys):
    model, _ = rgb
    grey = model.clone(in_chans=1)
    adapted = mixer.load_pretrained(NAME, grey)
    mixer.save_pretrained(tmp_path / "grey.npz", adapted, grey, 32)
    loaded, params, card = mixer.load(tmp_path / "grey.npz", model="Mixer-Ti/4")
    assert loaded.in_chans == card.channels == 1
    jax.tree.map(np.testing.assert_array_equal, params, adapted)
    with pytest.raises(errors.BadInput, match=r"\(4, 4, 1, .*the model needs \(4, 4, 3"):
        mixer.load_pretrained(tmp_path / "grey.npz", model)


def test_every_family_has_a_stem_for_any_channels():
    families = {registry.create_model(name, 10).__class__: name for name in mixer.list_models()}
    for name in families.values():
        fields, size = registry.model_fields(name), (256, 256)
        blocks = fields["num_blocks"]
        how = {"num_blocks": (1,) * len(blocks) if isinstance(blocks, tuple) else 1}
        normal = {"normalization": "none"} if "normalization" in fields else {}
        shapes = [
            jax.tree.leaves(
                fitting.shapes(mixer.create_model(name, 10, in_chans=c, **how, **normal), size)
            )
            for c in (3, 5)
        ]
        (stem,) = [(a.shape, b.shape) for a, b in zip(*shapes, strict=True) if a.shape != b.shape]
        assert (stem[0][2], stem[1][2]) == (3, 5), name
        if normal:
            with pytest.raises(ValueError, match="is for RGB, but images have 5 channels"):
                fitting.shapes(mixer.create_model(name, 10, in_chans=5, **how), size)
