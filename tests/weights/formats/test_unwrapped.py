"""What trainers add to the parameters: prefixes, optimizer state, counters. It is stripped."""

import jax
import numpy as np
import pytest

import mixer
from mixer.weights import formats
from tools.timm_parity import CASES

NAMES = ("Mixer", "ViT", "BiT")


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def stored(tmp_path):
    """(family, ending) -> the arrays of such a file."""

    def read(name, ending):
        path = tmp_path / f"plain{ending}"
        mixer.save_pretrained(path, CASES[name].params(), CASES[name].model)
        return formats.read(path)

    return read


def load(content, name, path):
    if path.suffix == ".npz":
        np.savez(path, **content)
    else:
        formats.write(path, content)
    return mixer.load_pretrained(path, CASES[name].model)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "ending, prefix",
    [
        (".npz", "params/"),
        (".npz", "opt/target/"),
        (".safetensors", "module."),
        (".safetensors", "model."),
        (".safetensors", "model._orig_mod.module."),
        (".safetensors", "state_dict.net."),
    ],
)
def test_prefixes_of_all_names(name, ending, prefix, stored, tmp_path, capsys):
    content = {prefix + key: array for key, array in stored(name, ending).items()}
    same(load(content, name, tmp_path / f"x{ending}"), CASES[name].params())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_are_not_parameters_are_left_out_and_reported(name, stored, tmp_path, capsys):
    params = stored(name, ".npz")
    content = {f"params/{key}": array for key, array in params.items()}
    content |= {f"opt/0/mu/{key}": array for key, array in params.items()}
    content |= {"chrono/steps": np.array(3), "chrono/accum_program_time": np.array(2.5)}
    content["extra/epoch"] = np.array(3)  # in the place of chrono, in the first big_vision
    same(load(content, name, tmp_path / "x.npz"), CASES[name].params())
    path = tmp_path / "x.npz"
    assert (
        capsys.readouterr().out
        == f"{path}: left out arrays that are not parameters: chrono, extra, opt\n"
    )
    older = {f"opt/target/{key}": array for key, array in params.items()}
    same(load(older | {"opt/state/step": np.array(3)}, name, path), CASES[name].params())
    assert "left out arrays that are not parameters: opt\n" in capsys.readouterr().out


def test_counters_and_averaged_weights_of_torch(stored, tmp_path, capsys):
    params = stored("Mixer", ".safetensors")
    content = {f"model_ema.module.{key}": array for key, array in params.items()}
    content |= {"n_averaged": np.array(7), "model_ema.module.bn.num_batches_tracked": np.array(5)}
    content["/num_batches_tracked"] = np.array(5)
    same(load(content, "Mixer", tmp_path / "x.npz"), CASES["Mixer"].params())
    out = capsys.readouterr().out
    assert "left out arrays that are not parameters: n_averaged, num_batches_tracked" in out
    assert "the parameters under 'model_ema.module.' are averaged" in out


def test_a_head_outside_of_the_backbone(stored, tmp_path):
    content = {
        key if key.startswith("head.") else f"module.backbone.{key}": array
        for key, array in stored("Mixer", ".safetensors").items()
    }
    same(load(content, "Mixer", tmp_path / "x.safetensors"), CASES["Mixer"].params())
    content = {f"module.{k}" if k.startswith("head.") else k: v for k, v in content.items()}
    same(load(content, "Mixer", tmp_path / "x.safetensors"), CASES["Mixer"].params())


def test_ambiguous_arrays_are_refused(stored, tmp_path):
    plain = stored("Mixer", ".safetensors")
    bias, zeros = plain["head.bias"], np.zeros(5, np.float32)
    wrapped = {f"model.{key}": array for key, array in plain.items()}
    both = wrapped | {f"model_ema.{key}": array for key, array in plain.items()}
    for content, message in (
        (both, "several sets of parameters, under 'model.', 'model_ema.': keep one"),
        (wrapped | {"head.bias": bias}, "two arrays for head.bias"),
        (wrapped | {"loss.weight": zeros}, "not in the model: loss.weight$"),
        (wrapped | {"teacher.head.bias": zeros}, "not in the model: teacher.head.bias$"),
        (
            {f"teacher.{key}": a for key, a in plain.items()},
            "has no Mixer parameters.*found teacher.bl",
        ),
        (plain | {"head.bias": np.arange(5)}, "head.bias is of dtype int64, expected floating"),
        (plain | {"head.bias": bias.astype(complex)}, "head.bias is of dtype complex"),
        (
            {f"opt/0/mu/{key}": a for key, a in plain.items()},
            "has no Mixer parameters.*found nothing",
        ),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            load(content, "Mixer", tmp_path / "x.npz")
