"""Programs for other runtimes give the model's logits, without this package."""

import json
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import mixer
from mixer import batch, errors
from mixer.checkpoint.model_card import ModelCard
from mixer.weights import programs
from mixer.weights.programs import onnx
from tools.timm_parity import CASES, WITHOUT_FILES

TOLERANCE = 1e-5


def card(case, **changes):
    facts = {"classes": tuple("abcde"), "dataset": "folder:/home/me/pets"} | changes
    return ModelCard({"name": case.base}, case.image_size, "resize", **facts)


def by_stablehlo(path, images):
    exported = jax.export.deserialize(path.read_bytes())
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    return exported.call(images)


def by_onnx(path, images):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(path)
    (shape,) = [given.shape for given in session.get_inputs()]
    assert shape == ["batch", *images.shape[1:]]
    return session.run(None, {"images": images})[0]


def by_tflite(path, images):
    tf = pytest.importorskip("tensorflow")
    with warnings.catch_warnings(action="ignore"):  # it moves to another package
        logits = tf.lite.Interpreter(str(path)).get_signature_runner()
    return np.concatenate([logits(images=image[None])["logits"] for image in images])


def by_tensorflow(path, images):
    tf = pytest.importorskip("tensorflow")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    return served(images=tf.constant(images))["logits"].numpy()


def _all_of(jaxpr):
    """Its equations, and those of the functions that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _all_of(inner)


RUNTIMES = {
    ".stablehlo": (by_stablehlo, "flatbuffers"),
    ".onnx": (by_onnx, "jax2onnx"),
    ".tflite": (by_tflite, "tensorflow"),
    "/saved_model/": (by_tensorflow, "tensorflow"),
}
# tests/models/test_export.py has all families of StableHLO.
MODELS = [(".stablehlo", "Mixer")]
MODELS += [(ending, name) for ending in [*RUNTIMES][1:] for name in ("Mixer", "ViT", "BiT")]
MODELS += [(".onnx", "HaloNet")]


@pytest.mark.parametrize(("ending", "name"), MODELS)
def test_its_own_runtime_gives_the_models_logits(ending, name, tmp_path):
    """For three images, while the program was checked with two."""
    runtime, library = RUNTIMES[ending]
    pytest.importorskip(library)
    case, target = (CASES | WITHOUT_FILES)[name], f"{tmp_path}/of{ending}"
    programs.check(target, case.params())
    difference = programs.save(target, case.params(), case.model, card(case))
    images = np.random.default_rng(1).integers(0, 256, (3, *case.image_size, 3), np.uint8)
    apply = jax.jit(lambda images: case.model.apply({"params": case.params()}, images))
    ours = np.asarray(apply(batch.to_model_input(images)))
    assert difference < TOLERANCE * np.abs(ours).max()
    found = runtime(Path(target), images)
    np.testing.assert_allclose(found, ours, rtol=0, atol=TOLERANCE * np.abs(ours).max())
    beside = f"{target}model.json" if target.endswith("/") else f"{target}.json"
    about = json.loads(Path(beside).read_text())
    batch_size = 1 if ending == ".tflite" else "batch"
    assert about["input"]["shape"] == [batch_size, *case.image_size, 3]
    assert about["output"]["shape"] == [batch_size, 5] and about["classes"] == list("abcde")
    assert about["preprocessing"] == {"transform": "resize", "crop_pct": 1.0, "crop_mode": "squash"}
    assert Path(target).name in about["use"] and "/home" not in str(about)


def test_a_program_that_fails_or_has_other_logits_is_not_kept(tmp_path, monkeypatch):
    def write(path, function, params, shape):
        path.write_bytes(b"program")

    def fail(*_):
        raise RuntimeError("no such operation\nmore")

    def by_number(path, function, params, shape):
        images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), *shape), jnp.uint8)
        jax.eval_shape(lambda images: images.reshape(len(images), -1), images)

    case, target = CASES["Mixer"], f"{tmp_path}/of.stablehlo"
    for fake, message in (
        ({"write": write, "run": lambda path, images: np.ones((2, 5))}, "is not kept: its logits"),
        ({"write": write, "run": fail}, "cannot be made of this model: no such operation$"),
        ({"write": fail}, "cannot be made of this model: no such operation$"),
        ({"write": by_number}, "model: .*_DimExpr.* write x.shape.0., not len"),
    ):
        for name, function in fake.items():
            monkeypatch.setattr(programs.stablehlo, name, function)
        with pytest.raises(errors.Failure, match=message):
            programs.save(target, case.params(), case.model, card(case))
        assert not list(tmp_path.iterdir())


def test_what_is_rewritten_for_onnx_has_the_same_values():
    """Within called functions too, and with a symbol for the size of the batch."""

    @jax.custom_vjp
    def twice(x):
        return jnp.pad(2 * x, ((0, 0), (0, 1), (2, 0)), constant_values=3)

    twice.defvjp(lambda x: (twice(x), None), lambda _, g: (g,))

    def function(x):
        y = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (0, 1)))
        together = jax.checkpoint(lambda *both: jnp.stack(both, axis=2))
        return together(twice(y[..., 0]), jax.nn.relu(twice(y[..., 1]))) - 1

    (batch_size,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch_size, 8, 6, 2), jnp.float32)
    traced = jax.make_jaxpr(function)(images)
    assert "pad" in {equation.primitive.name for equation in _all_of(traced.jaxpr)}
    rewritten = lambda x: onnx._rewritten(traced, x)[0]
    x = np.random.default_rng(0).normal(size=(3, 8, 6, 2)).astype(np.float32)
    exported = jax.export.export(jax.jit(rewritten))(images)
    np.testing.assert_array_equal(exported.call(x), function(x))
    found = [*_all_of(jax.make_jaxpr(rewritten)(images).jaxpr)]
    assert not {"pad", "stack"} & {equation.primitive.name for equation in found}
    pools = [e.params["padding"] for e in found if e.primitive.name == "reduce_window_max"]
    assert np.sum(pools) == 0 and len(pools) == 1


def test_what_a_program_means_is_described():
    case = CASES["Mixer"]
    synsets = card(case, classes=("n01440764", "n02099601"), multi_label=True)
    about = programs.describe("x/of.onnx", case.model, synsets)
    assert about["names"] == ("tench", "golden retriever")
    assert "sigmoid" in about["output"]["meaning"] and "'of.onnx'" in about["use"]
    numbers = programs.describe("x/of.onnx", case.model, card(case, regression=True))
    assert "numbers" in numbers["output"]["meaning"]
    assert programs.format_of("X.ONNX") and not programs.format_of("x.npz")


def test_what_cannot_be_written_is_refused_before(monkeypatch):
    for ending, (_, library) in RUNTIMES.items():
        extra = "tensorflow" if library == "tensorflow" else ending[1:]
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            fix = rf"needs the package {library}: pip install -r requirements-{extra}.txt"
            with pytest.raises(mixer.BadInput, match=fix):
                programs.check(f"x{ending}", {})
    monkeypatch.setattr(programs.stablehlo, "check", lambda: None)  # as with its library
    large = {"kernel": jax.ShapeDtypeStruct((2**15, 2**15), np.float32)}
    with pytest.raises(mixer.BadInput, match="the parameters have 4,294,967,296: convert to .safe"):
        programs.check("x.stablehlo", large)
