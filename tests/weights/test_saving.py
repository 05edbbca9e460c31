import jax
import numpy as np
import pytest
from flax import linen as nn

import mixer
from mixer.models.mixer import Mixer
from mixer.weights import fitting


def model(classes=5, blocks=11, **fields):
    sizes = {"hidden_dim": 8, "tokens_mlp_dim": 6, "channels_mlp_dim": 16}
    return Mixer(
        **({"num_classes": classes, "patch_size": 4, "num_blocks": blocks} | sizes | fields)
    )


def params(size=(8, 8), classes=5):
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(model(classes), size)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("ending", ("npz", "safetensors"))
@pytest.mark.parametrize("classes", (5, 0))
def test_round_trip_is_exact(ending, classes, tmp_path):
    path = tmp_path / f"weights.{ending}"
    mixer.save_pretrained(path, params(classes=classes), model(classes))
    same(mixer.load_pretrained(path, model(classes)), params(classes=classes))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    other = tmp_path / f"again.{'npz' if ending == 'safetensors' else 'safetensors'}"
    mixer.save_pretrained(other, mixer.load_pretrained(path, model(classes)), model(classes))
    same(mixer.load_pretrained(other, model(classes)), params(classes=classes))


def test_the_published_names_are_the_trees(tmp_path):
    path = tmp_path / "weights.npz"
    mixer.save_pretrained(path, params(), model())
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(
            file["MixerBlock_10/token_mixing/Dense_0/kernel"],
            params()["MixerBlock_10"]["token_mixing"]["Dense_0"]["kernel"],
        )
        blocks = [name.partition("/")[0] for name in file if name.startswith("Mixer")]
    assert list(dict.fromkeys(blocks)) == [f"MixerBlock_{i}" for i in range(11)]


def test_grids(tmp_path):
    """As stored without an image size; else the recorded, the given, an equal or a square grid."""
    wide, square = tmp_path / "wide.npz", tmp_path / "square.npz"
    mixer.save_pretrained(wide, params((8, 12)), model())
    mixer.save_pretrained(square, params(), model())
    same(mixer.load_pretrained(wide, model()), params((8, 12)))
    same(mixer.load_pretrained(wide, model(), image_size=(8, 12)), params((8, 12)))
    same(mixer.load_pretrained(wide, model(), image_size=(12, 8)), params((8, 12)))
    large = mixer.load_pretrained(square, model(), image_size=(8, 16))
    expected = fitting.shapes(mixer.at_resolution(model(), (8, 16), 8), (8, 16))
    assert jax.tree.map(np.shape, large) == jax.tree.map(lambda s: s.shape, expected)
    given = {"image_size": 24, "pretrained_size": (8, 12)}
    wider = mixer.load_pretrained(wide, model(), **given)["MixerBlock_0"]["token_mixing"]
    assert wider["Dense_0"]["kernel"].shape == (36, 36)  # 3 x 2 parts
    kept = mixer.load_pretrained(wide, model(), **given, method="resample")["MixerBlock_0"]
    assert kept["token_mixing"]["Dense_0"]["kernel"].shape == (36, 6)
    for kwargs, message in (
        ({"image_size": 24}, "weights for 6 patches of 4, not a square grid: .*pretrained_size="),
        (given | {"pretrained_size": 8}, "a grid of 2 x 2 patches of 4, but .* for 6 patches"),
        (given | {"pretrained_size": 9}, "9 x 9 is not divisible by patch_size 4"),
        (given | {"image_size": 20, "method": "block_diagonal"}, "2 x 3 patches .* to 5 x 5"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            mixer.load_pretrained(wide, model(), **kwargs)


def test_a_model_with_another_resolutions_width_is_refused(tmp_path):
    """Either way: weights of a higher resolution, or a model that at_resolution returned."""
    path, large = tmp_path / "weights.npz", mixer.at_resolution(model(), 16, 8)
    mixer.save_pretrained(path, params(), model())
    with pytest.raises(
        mixer.BadInput, match="MLPs of 6 units, the model of 24: load_pretrained ta"
    ):
        mixer.load_pretrained(path, large, image_size=16)
    mixer.save_pretrained(path, mixer.load_pretrained(path, model(), image_size=16), large)
    with pytest.raises(
        mixer.BadInput, match="MLPs of 24 units, the model of 6: .* tokens_mlp_dim=24"
    ):
        mixer.load_pretrained(path, model())
    # An unrelated model gets the general message.
    with pytest.raises(mixer.BadInput, match="does not fit the model"):
        mixer.load_pretrained(path, model(hidden_dim=12))


def test_a_safetensors_file_records_its_size(tmp_path, capsys):
    """The size given to `save_pretrained`; else a grid that fits is assumed and reported."""
    path = tmp_path / "weights.safetensors"
    for told, said in (((8, 12), False), (None, True)):
        mixer.save_pretrained(path, params((8, 12)), model(), image_size=told)
        turned = mixer.load_pretrained(path, model(), image_size=(12, 8))
        assert ("of its 6 patches: assuming 3 x 2, of 12 x 8" in capsys.readouterr().out) == said
        assert jax.tree.all(jax.tree.map(np.array_equal, turned, params((8, 12)))) == said
    mixer.save_pretrained(path, params((8, 12)), model(), image_size=(8, 12))
    with pytest.raises(mixer.BadInput, match=r"pretrained_size=\(12, 8\), but .* was trained at"):
        mixer.load_pretrained(path, model(), image_size=8, pretrained_size=(12, 8))
    with pytest.raises(mixer.BadInput, match="the model needs"):
        mixer.save_pretrained(path, params((8, 12)), model(), image_size=(8, 16))


def test_another_patch_size_is_a_separate_step(tmp_path):
    path = tmp_path / "weights.npz"
    mixer.save_pretrained(path, params(), model())
    with pytest.raises(mixer.BadInput, match="is for patch_size 4, the model has 8: .*with_patch"):
        mixer.load_pretrained(path, model(patch_size=8), image_size=16)
    larger = mixer.with_patch_size(mixer.load_pretrained(path, model()), 8)
    mixer.save_pretrained(path, larger, model(patch_size=8))
    same(mixer.load_pretrained(path, model(patch_size=8), image_size=16), larger)


def damaged(path, **changes):
    """The weights with some arrays changed, or left out if None."""
    mixer.save_pretrained(path, params(), model())
    with np.load(path) as file:
        arrays = dict(file)
    for name, change in changes.items():
        arrays[name] = change and change(arrays[name])
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_bad_files_are_refused(tmp_path):
    whole = damaged(tmp_path / "whole.npz")
    cut, pickled, other, single = (tmp_path / f"{n}.npz" for n in ("cut", "pick", "vit", "npy"))
    cut.write_bytes(whole.read_bytes()[:2000])
    np.savez(pickled, a=np.array([{}], dtype=object))
    np.savez(other, **{"head/kernel": np.zeros(3), "embedding/kernel": np.zeros(3)})
    with single.open("wb") as stream:
        np.save(stream, np.zeros(3))
    kernel, bias = "MixerBlock_3/channel_mixing/Dense_0/kernel", "MixerBlock_10/LayerNorm_0/bias"
    lost = {name: None for name in dict(np.load(whole)) if name.startswith("MixerBlock_0/")}
    for path, message in (
        (tmp_path / "none.npz", "there is no such file"),
        (tmp_path, "is not the workdir"),
        (cut, "not a readable .npz file"),
        (pickled, "a has pickled objects, which are never read"),
        (other, "has no Mixer parameters: .* found embedding/kernel, head/kernel"),
        (single, "not a readable .npz file"),
        (damaged(tmp_path / "a.npz", **lost), "does not fit the model: missing: MixerBlock_0$"),
        (damaged(tmp_path / "b.npz", **{kernel: np.transpose}), r"3/.*: \(16, 8\) \(transposed\?"),
        (damaged(tmp_path / "c.npz", **{bias: lambda b: b * np.nan}), "8 of the 8 numbers of Mix"),
        (damaged(tmp_path / "d.npz", **{bias: lambda b: b.astype(int)}), "bias is of dtype int64"),
    ):
        with pytest.raises(mixer.BadInput, match=message) as error:
            mixer.load_pretrained(path, model())
        assert "\n" not in str(error.value)
    with pytest.raises(mixer.BadInput, match="not in the model: MixerBlock_10$"):
        mixer.load_pretrained(whole, model(blocks=10))
    with pytest.raises(mixer.BadInput, match="the model is a Dense"):
        mixer.load_pretrained(whole, nn.Dense(3))


def test_only_parameters_that_fit_are_saved(tmp_path):
    turned, path = params(), tmp_path / "weights.npz"
    turned["head"]["kernel"] = turned["head"]["kernel"].T
    for name, weights, target, message in (
        ("weights.bin", params(), model(), r"ending in .npz or .safetensors"),
        ("weights.npz", params(), model(blocks=3), r"not in the model: MixerBlock_\{3..10\}"),
        ("weights.npz", params(), model(classes=0), "not in the model: head"),
        ("weights.npz", turned, model(), r"head/kernel: \(5, 8\) \(transposed\?\)"),
        ("none/weights.npz", params(), model(), "cannot be written"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            mixer.save_pretrained(tmp_path / name, weights, target)
    assert not path.exists()
