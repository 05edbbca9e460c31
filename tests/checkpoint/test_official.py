import jax
import numpy as np
import pytest

import mixer
from mixer.checkpoint import adapt
from mixer.models.mixer import Mixer


def model(classes=5, blocks=11):
    return Mixer(
        num_classes=classes,
        patch_size=4,
        num_blocks=blocks,
        hidden_dim=8,
        tokens_mlp_dim=6,
        channels_mlp_dim=16,
    )


def params(size=(8, 8), classes=5):
    rng = np.random.default_rng(0)
    shapes = adapt.shapes(model(classes), size)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def test_round_trip_is_exact_and_the_names_are_the_trees(tmp_path):
    path = tmp_path / "weights.npz"
    mixer.save_pretrained(path, params(), model())
    jax.tree.map(np.testing.assert_array_equal, mixer.load_pretrained(path, model()), params())
    with np.load(path, allow_pickle=False) as file:
        assert "MixerBlock_10/token_mixing/Dense_0/kernel" in file
        assert file["head/kernel"].dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]


def test_grids(tmp_path):
    path = tmp_path / "wide.npz"
    mixer.save_pretrained(path, params((8, 12)), model())
    loaded = mixer.load_pretrained(path, model(), image_size=(8, 12))
    jax.tree.map(np.testing.assert_array_equal, loaded, params((8, 12)))
    with pytest.raises(mixer.BadInput, match="6 tokens are no square"):
        mixer.load_pretrained(path, model())
    square = tmp_path / "square.npz"
    mixer.save_pretrained(square, params(), model())
    with pytest.raises(mixer.BadInput, match="for images of 8 x 8, not 16 x 16"):
        mixer.load_pretrained(square, model(), image_size=16)


def test_bad_files_are_refused(tmp_path):
    whole = tmp_path / "whole.npz"
    mixer.save_pretrained(whole, params(), model())
    cut, pickled, other = (tmp_path / f"{name}.npz" for name in ("cut", "pickled", "other"))
    cut.write_bytes(whole.read_bytes()[:2000])
    np.savez(pickled, a=np.array([{}], dtype=object))
    np.savez(other, **{"conv/kernel": np.zeros(3)})
    for path, message in (
        (tmp_path / "none.npz", "there is no such file"),
        (cut, "no readable .npz file"),
        (pickled, "allow_pickle=False"),
        (other, r"expected a Mixer's parameters .* found \['conv'\]"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            mixer.load_pretrained(path, model())
    with pytest.raises(mixer.BadInput, match="not in the model: MixerBlock_10"):
        mixer.load_pretrained(whole, model(blocks=10))


def test_only_what_fits_is_saved(tmp_path):
    with pytest.raises(mixer.BadInput, match=r"ending in \.npz"):
        mixer.save_pretrained(tmp_path / "weights.bin", params(), model())
    with pytest.raises(mixer.BadInput, match="the model needs"):
        mixer.save_pretrained(tmp_path / "weights.npz", params(), model(blocks=3))
