"""ViT and BiT files: every known naming, and what is refused."""

import re

import jax
import numpy as np
import pytest
from scipy import ndimage

import mixer
from mixer.weights import fitting, formats
from tools.timm_parity import CASES


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ending", ("npz", "safetensors"))
def test_round_trip_is_exact(name, ending, tmp_path):
    """timm reads these files: see tools/timm_parity.py."""
    case, path = CASES[name], tmp_path / f"weights.{ending}"
    mixer.save_pretrained(path, case.params(), case.model)
    same(mixer.load_pretrained(path, case.model), case.params())
    same(mixer.load_pretrained(path, case.model, image_size=case.image_size), case.params())
    headless = mixer.load_pretrained(path, case.model.clone(num_classes=0))
    assert headless.keys() == case.params().keys() - {"head"}


def stored(name, tmp_path):
    """The arrays of the published file."""
    path = tmp_path / "published.npz"
    mixer.save_pretrained(path, CASES[name].params(), CASES[name].model)
    return formats.read(path)


def load(content, model, tmp_path, **kwargs):
    np.savez(tmp_path / "content.npz", **content)
    return mixer.load_pretrained(tmp_path / "content.npz", model, **kwargs)


def test_published_names(tmp_path):
    vit = {name: array.shape for name, array in stored("ViT", tmp_path).items()}
    block = "Transformer/encoderblock_1"
    for name, shape in (
        ("embedding/kernel", (4, 4, 3, 12)),
        ("cls", (1, 1, 12)),
        ("Transformer/posembed_input/pos_embedding", (1, 7, 12)),
        ("Transformer/encoder_norm/scale", (12,)),
        (f"{block}/LayerNorm_0/bias", (12,)),
        (f"{block}/MultiHeadDotProductAttention_1/key/kernel", (12, 3, 4)),
        (f"{block}/MultiHeadDotProductAttention_1/out/kernel", (3, 4, 12)),
        (f"{block}/LayerNorm_2/scale", (12,)),
        (f"{block}/MlpBlock_3/Dense_0/kernel", (12, 24)),
    ):
        assert vit[name] == shape
    bit = {name: array.shape for name, array in stored("BiT", tmp_path).items()}
    for name, shape in (
        ("resnet/root_block/standardized_conv2d/kernel", (7, 7, 3, 32)),
        ("resnet/block1/unit03/b/standardized_conv2d/kernel", (3, 3, 32, 32)),
        ("resnet/block2/unit01/a/proj/standardized_conv2d/kernel", (1, 1, 128, 256)),
        ("resnet/block1/unit02/c/group_norm/gamma", (32,)),
        ("resnet/head/conv2d/kernel", (1, 1, 256, 5)),
    ):
        assert bit[name] == shape
    r50 = fitting.shapes(mixer.create_model("BiT-R50x1", 21843), (32, 32))
    assert len(jax.tree.leaves(r50)) == 153


def linen(name):
    """Flax Linen's numbering: each kind of submodule separately."""
    for old, new in (("Attention_1", "Attention_0"), ("Norm_2", "Norm_1"), ("Block_3", "Block_0")):
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize("prefix", ("", "opt/target/", "params/"))
def test_other_spellings_of_vits(prefix, tmp_path):
    content = {prefix + linen(name): a for name, a in stored("ViT", tmp_path).items()}
    same(load(content, CASES["ViT"].model, tmp_path), CASES["ViT"].params())


@pytest.mark.parametrize("prefix, scanned", [("", False), ("params/", True), ("params/img/", True)])
def test_big_visions_vits(prefix, scanned, tmp_path):
    """Position embeddings are added before the class token, with the same resulting tokens."""
    case = CASES["ViT"]
    content = {linen(name): array for name, array in stored("ViT", tmp_path).items()}
    table = content.pop("Transformer/posembed_input/pos_embedding")
    content |= {"pos_embedding": table[:, 1:], "cls": content["cls"] + table[:, :1]}
    if scanned:
        first = [name for name in content if "encoderblock_0/" in name]
        for name in first:
            blocks = [content.pop(name.replace("block_0", f"block_{i}")) for i in range(2)]
            content[name.replace("encoderblock_0", "encoderblock")] = np.stack(blocks)
    content = {prefix + name: array for name, array in content.items()}
    params = load(content, case.model, tmp_path)
    tokens = (
        params["pos_embedding"].at[:, 0].add(params["cls"][0, 0])
    )  # the tokens that the model sees
    want = case.params()
    seen = want["pos_embedding"] + np.pad(want["cls"], ((0, 0), (0, 6), (0, 0)))
    np.testing.assert_allclose(tokens, seen, atol=1e-6)
    same(params | {"pos_embedding": 0, "cls": 0}, want | {"pos_embedding": 0, "cls": 0})
    with_pool = content | {f"{prefix}MAPHead_0/probe": np.zeros(3, np.float32)}
    with pytest.raises(mixer.BadInput, match="not in the model: .*MAPHead_0"):
        load(with_pool, case.model, tmp_path)


def test_other_spellings_of_bits(tmp_path):
    case, published = CASES["BiT"], stored("BiT", tmp_path)
    numbered = {
        name.replace("/standardized_conv2d/", f"/standardized_conv2d_{i}/"): array
        for i, (name, array) in enumerate(published.items())
    }
    same(load(numbered, case.model, tmp_path), case.params())
    big_vision = {}
    for name, array in published.items():
        name = name.removeprefix("resnet/").replace("a/proj/standardized_conv2d", "conv_proj")
        for number, letter in enumerate("abc", 1):
            name = name.replace(f"/{letter}/standardized_conv2d", f"/conv{number}")
            name = name.replace(f"/{letter}/group_norm", f"/gn{number}")
        name = name.replace("root_block/standardized_conv2d", "root_block/conv_root")
        name = re.sub("^group_norm", "norm-pre-head", name).replace("head/conv2d", "head")
        name = name.replace("gamma", "scale").replace("beta", "bias")
        if array.ndim == 1 and name != "head/bias":
            array = array[None, None, None]
        big_vision[name] = array[0, 0] if name == "head/kernel" else array
    assert "block1/unit03/gn2/scale" in big_vision
    same(load(big_vision, case.model, tmp_path), case.params())


def test_strictness(tmp_path):
    vit, bit = CASES["ViT"].model, CASES["BiT"].model
    of_vit, of_bit = stored("ViT", tmp_path), stored("BiT", tmp_path)
    proj = "resnet/block1/unit01/a/proj/standardized_conv2d/kernel"
    key = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/key/bias"
    for content, model, message in (
        (of_bit, vit, "has no ViT parameters: expected names such as Transformer/posembed_inp"),
        (of_vit, bit, "has no BiT parameters: .* or stages.0.blocks.0.conv3.weight, found"),
        ({n: a for n, a in of_bit.items() if n != proj}, bit, "missing: stage_0_unit_0/conv_proj"),
        (of_bit | {proj.replace("unit01", "unit1"): of_bit[proj]}, bit, "not in the model: resnet"),
        (of_vit | {key: of_vit[key].T}, vit, r"key/bias: \(4, 3\) \(transposed\?\), the model nee"),
        (of_vit, vit.clone(pooling="gap"), "the published names.* not in the model: cls"),
        ({n: a for n, a in of_vit.items() if n != "cls"}, vit, "missing: cls"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            load(content, model, tmp_path)
    path = tmp_path / "weights.safetensors"
    mixer.save_pretrained(path, CASES["ViT"].params(), vit)
    content = formats.read(path)
    content["blocks.1.attn.qkv.weight"] = content["blocks.1.attn.qkv.weight"][:7]
    formats.write(path, content)
    with pytest.raises(
        mixer.BadInput, match=r"blocks.1.attn.qkv.weight has shape \(7, 12\), which cannot "
    ):
        mixer.load_pretrained(path, vit)
    mixer.save_pretrained(path, CASES["BiT"].params(), bit)
    flat = formats.read(path)
    formats.write(path, flat | {"head.fc.weight": flat["head.fc.weight"][:, :, 0, 0]})
    with pytest.raises(
        mixer.BadInput, match=r"head.fc.weight has shape \(5, 256\), which .* to head/kernel"
    ):
        mixer.load_pretrained(path, bit)


def test_the_representation_layer(tmp_path, capsys):
    """Loaded if the model has it; else dropped and reported, with the head on top of it."""
    case = CASES["ViT"]
    full = case.model.clone(representation_size=7)
    shapes = fitting.shapes(full, case.image_size)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)
    path = tmp_path / "weights.npz"
    mixer.save_pretrained(path, params, full)
    assert {"pre_logits/kernel", "pre_logits/bias"} <= formats.read(path).keys()
    same(mixer.load_pretrained(path, full), params)
    tuned = mixer.load_pretrained(path, case.model)
    assert not tuned["head"]["kernel"].any() and "representation" not in tuned
    assert "representation layer of 7" in capsys.readouterr().out
    with pytest.raises(
        mixer.BadInput,
        match="on top of a representation layer of 7 units: set .*representation_size=7",
    ):
        mixer.load_pretrained(path, case.model, head="keep")
    with pytest.raises(mixer.BadInput, match="timm's names have none for representation/"):
        mixer.save_pretrained(tmp_path / "weights.safetensors", params, full)


@pytest.mark.parametrize(
    "name, new", [("ViT", (4, 6)), ("ViT", (3, 2)), ("ViT-gap", (2, 5)), ("ViT-gap", (1, 1))]
)
def test_positions_as_scipy_zooms_them(name, new, tmp_path):
    case, old, path = CASES[name], (2, 3), tmp_path / "weights.npz"
    mixer.save_pretrained(path, case.params(), case.model)
    size = (new[0] * 4, new[1] * 4)
    wanted = {"image_size": size, "pretrained_size": case.image_size}
    params = mixer.load_pretrained(path, case.model, **wanted)
    before, after = case.params()["pos_embedding"][0], params["pos_embedding"][0]
    kept = len(before) - 6
    zoom = (new[0] / old[0], new[1] / old[1], 1)
    want = ndimage.zoom(before[kept:].reshape(*old, -1), zoom, order=1).reshape(-1, 12)
    np.testing.assert_allclose(after, np.concatenate([before[:kept], want]), atol=1e-6)
    assert mixer.at_resolution(case.model, **wanted) == case.model
    assert fitting.shapes(case.model, size)["pos_embedding"].shape[1:] == after.shape
    same(params | {"pos_embedding": 0}, case.params() | {"pos_embedding": 0})
    with pytest.raises(mixer.BadInput, match="is for token mixing; a ViT's positions are resampl"):
        mixer.load_pretrained(path, case.model, method="block_diagonal", **wanted)


def test_bit_parameters_fit_any_size(tmp_path):
    case, path = CASES["BiT"], tmp_path / "weights.npz"
    mixer.save_pretrained(path, case.params(), case.model)
    same(mixer.load_pretrained(path, case.model, image_size=480), case.params())
    same(mixer.load_pretrained(path, case.model, image_size=96, pretrained_size=64), case.params())
