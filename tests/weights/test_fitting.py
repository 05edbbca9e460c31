import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from mixer import errors
from mixer.models.mixer import Mixer
from mixer.weights import fitting


def model(classes=5, **fields):
    return Mixer(
        num_classes=classes,
        patch_size=4,
        num_blocks=1,
        hidden_dim=8,
        tokens_mlp_dim=6,
        channels_mlp_dim=16,
        **fields,
    )


def params(classes=5):
    shapes = fitting.shapes(model(classes), (8, 8))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def fit(stored, target, head="auto", bias=0.0):
    said = []
    fitted = fitting.fit(
        traverse_util.flatten_dict(stored, sep="/"),
        fitting.shapes(target, (8, 8)),
        head=head,
        head_bias_init=bias,
        source="X",
        report=said.append,
    )
    return fitted, said


def test_a_head_of_the_right_shape_is_kept():
    fitted, said = fit(params(), model())
    jax.tree.map(np.testing.assert_array_equal, fitted, params())
    assert said == []


def test_a_head_of_another_shape_is_reset_and_reported():
    fitted, said = fit(params(5), model(3), bias=-6.9)
    assert not fitted["head"]["kernel"].any() and fitted["head"]["kernel"].shape == (8, 3)
    np.testing.assert_allclose(fitted["head"]["bias"], -6.9)
    assert said == ["X: its head has 5 classes; a new one for 3 classes starts at zero"]
    headless = {k: v for k, v in params().items() if k != "head"}
    assert "has none" in fit(headless, model(3))[1][0]


def test_reset_and_keep():
    assert not fit(params(), model(), "reset")[0]["head"]["kernel"].any()
    with pytest.raises(errors.BadInput, match=r"head/kernel: \(8, 5\), the model needs \(8, 3\)"):
        fit(params(5), model(3), "keep")
    with pytest.raises(errors.BadInput, match="'kept'. Did you mean 'keep'"):
        fit(params(), model(), "kept")


def test_a_model_without_a_head_drops_it():
    fitted, said = fit(params(), model(0))
    assert "head" not in fitted and said == []


def test_a_head_of_zeros_is_reported():
    stored = params()
    stored["head"]["kernel"] *= 0
    fitted, said = fit(stored, model())
    assert not fitted["head"]["kernel"].any() and "X: its head's kernel is all zeros" in said[0]
    assert fit(stored, model(0))[1] == [] and "a new one" in fit(stored, model(3))[1][0]


def test_every_name_and_shape_is_checked():
    stored = params()
    stored["MixerBlock_1"] = {"extra": np.zeros(3)}
    del stored["stem"]["bias"]
    stored["pre_head_layer_norm"]["scale"] = np.zeros(9)
    turned = stored["MixerBlock_0"]["token_mixing"]["Dense_0"]
    turned["kernel"] = turned["kernel"].T
    with pytest.raises(errors.BadInput) as error:
        fit(stored, model())
    assert str(error.value) == (
        "X does not fit the model: missing: stem/bias; not in the model: MixerBlock_1/extra; "
        "MixerBlock_0/token_mixing/Dense_0/kernel: (6, 4) (transposed?), the model needs (4, 6); "
        "pre_head_layer_norm/scale: (9,), the model needs (8,)"
    )


def test_differences_of_many_blocks_are_listed_once():
    needs = model().clone(num_blocks=12)
    stored = fitting.shapes(needs.clone(channels_mlp_dim=17), (8, 8))
    stored = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), stored)
    del stored["MixerBlock_2"], stored["MixerBlock_11"], stored["MixerBlock_4"]["LayerNorm_1"]
    with pytest.raises(errors.BadInput) as error:
        fit(stored, needs)
    message = str(error.value)
    assert "missing: MixerBlock_{2,11}; missing: MixerBlock_4/LayerNorm_1/bias; " in message
    others = "MixerBlock_{0,1,3,4,5,6,7,8,9,10}"
    assert f"{others}/channel_mixing/Dense_0/bias: (17,), the model needs (16,)" in message


@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_numbers_that_are_not_finite_are_refused(value):
    stored = params()
    stored["stem"]["kernel"][0, 0, 0, :2] = value
    with pytest.raises(errors.BadInput, match="X: 2 of the 384 numbers of stem/kernel are NaN"):
        fit(stored, model())


def test_classes_in_another_order_and_other_classes():
    stored = traverse_util.flatten_dict(params(3), sep="/")
    had, said = ("ant", "bee", "cat"), []

    def heads(classes, head="auto", had=had):
        said.clear()
        found, head = fitting.for_classes(stored, head, had, classes, "X", said.append)
        body = {name for name in found if not name.startswith("head/")}
        assert all(found[name] is stored[name] for name in body)
        return found["head/kernel"], found["head/bias"], head

    kernel, bias = stored["head/kernel"], stored["head/bias"]
    for classes in (had, ("ant", "bee"), list(had)):  # the same, or another number
        assert heads(classes) == (kernel, bias, "auto") and not said
    assert heads(had, had=())[2] == "auto"
    assert said == ["X: its head of 3 classes is kept, but their names are unknown"]
    assert heads(had, "keep", had=()) == (kernel, bias, "keep") and not said
    headless = {name: array for name, array in stored.items() if not name.startswith("head/")}
    assert fitting.for_classes(headless, "auto", (), had, "X", said.append) == (headless, "auto")
    for head in ("auto", "keep"):
        turned, offsets, left = heads(("cat", "ant", "bee"), head)
        np.testing.assert_array_equal(turned, kernel[:, [2, 0, 1]])
        np.testing.assert_array_equal(offsets, bias[[2, 0, 1]])
        assert left == head and "in another order, and is reordered" in said[0]
    *kept, head = heads(("ant", "bee", "dog"))
    assert head == "reset" and kept == [kernel, bias]
    assert said == [
        "X: its head is for other classes, ant, bee, cat, than ant, bee, dog: "
        "a new one starts at zero"
    ]
    assert heads(("ant", "bee", "dog"), "keep")[2] == "keep" and "kept as requested" in said[0]
    assert heads(("cat", "ant", "bee"), "reset") == (kernel, bias, "reset") and not said
    # The same name twice: the order cannot be determined.
    assert heads(("bee", "ant", "ant"), had=("ant", "ant", "bee"))[2] == "reset"


def test_shapes_are_a_new_tree_each_time_also_for_a_model_without_a_hash():
    class Own(nn.Module):
        sizes: np.ndarray

        @nn.compact
        def __call__(self, images):
            return nn.Dense(int(self.sizes.sum()), name="head")(images.mean((1, 2)))

    for model, width in ((nn.Dense(3), 3), (Own(np.array([3, 4])), 7)):
        found = fitting.shapes(model, (4, 4))
        (kernel,) = [leaf for leaf in jax.tree.leaves(found) if leaf.ndim == 2]
        assert kernel.shape == (3, width)
        found.clear()
        assert fitting.shapes(model, (4, 4))
