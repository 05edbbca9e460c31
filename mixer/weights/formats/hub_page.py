"""The text of a new Hub folder: its config.json, as timm reads it, and its page README.md."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from mixer import calls, errors
from mixer.checkpoint.model_card import ModelCard
from mixer.weights.formats.hub_folder import OWN


@dataclasses.dataclass(frozen=True)
class _Family:
    """How timm describes a family.

    Attributes:
      paper: for the page.
      sizes: the fields that make an architecture.
      names: {their values: timm's name}.
      stem, head: timm's layers.
      gridded: whether the parameters are for one image size, an argument of timm's model.
    """

    paper: str
    sizes: tuple[str, ...]
    names: Mapping[tuple, str]
    stem: str
    head: str
    gridded: bool


_PATCHES = ("patch_size", "num_blocks", "hidden_dim")
_FAMILIES = {
    "Mixer": _Family(
        "MLP-Mixer, Tolstikhin et al. 2021, arXiv 2105.01601",
        _PATCHES,  # the widths of the MLPs are arguments
        {
            (32, 8, 512): "mixer_s32_224",
            (16, 8, 512): "mixer_s16_224",
            (32, 12, 768): "mixer_b32_224",
            (16, 12, 768): "mixer_b16_224",
            (32, 24, 1024): "mixer_l32_224",
            (16, 24, 1024): "mixer_l16_224",
        },
        *("stem.proj", "head", True),
    ),
    "ViT": _Family(
        "Vision Transformer, Dosovitskiy et al. 2021, arXiv 2010.11929",
        (*_PATCHES, "mlp_dim", "num_heads"),
        {
            (16, 12, 192, 768, 3): "vit_tiny_patch16_224",
            (32, 12, 384, 1536, 6): "vit_small_patch32_224",
            (16, 12, 384, 1536, 6): "vit_small_patch16_224",
            (32, 12, 768, 3072, 12): "vit_base_patch32_224",
            (16, 12, 768, 3072, 12): "vit_base_patch16_224",
            (32, 24, 1024, 4096, 16): "vit_large_patch32_224",
            (16, 24, 1024, 4096, 16): "vit_large_patch16_224",
            (14, 32, 1280, 5120, 16): "vit_huge_patch14_224",
        },
        *("patch_embed.proj", "head", True),
    ),
    "BiT": _Family(
        "Big Transfer, Kolesnikov et al. 2020, arXiv 1912.11370",
        ("num_blocks", "width"),
        {
            (blocks, 64 * factor): f"resnetv2_{layers}x{factor}_bit"
            for layers, blocks, factors in (
                (50, (3, 4, 6, 3), (1, 3)),
                (101, (3, 4, 23, 3), (1, 3)),
                (152, (3, 8, 36, 3), (2, 4)),
            )
            for factor in factors
        },
        *("stem.conv", "head.fc", False),
    ),
    "ResMLP": _Family(
        "ResMLP, Touvron et al. 2021, arXiv 2105.03404",
        (*_PATCHES, "channels_mlp_dim"),
        {
            (16, 12, 384, 1536): "resmlp_12_224",
            (16, 24, 384, 1536): "resmlp_24_224",
            (16, 36, 384, 1536): "resmlp_36_224",
            (8, 24, 768, 3072): "resmlp_big_24_224",
        },
        *("stem.proj", "head", True),
    ),
    "GMLP": _Family(
        "gMLP, Liu et al. 2021, arXiv 2105.08050",
        (*_PATCHES, "ffn_dim"),
        {
            (16, 30, 128, 768): "gmlp_ti16_224",
            (16, 30, 256, 1536): "gmlp_s16_224",
            (16, 30, 512, 3072): "gmlp_b16_224",
        },
        *("stem.proj", "head", True),
    ),
    "ConvNeXt": _Family(
        "ConvNeXt, Liu et al. 2022, arXiv 2201.03545",
        ("num_blocks", "widths"),
        {
            ((3, 3, 9, 3), (96, 192, 384, 768)): "convnext_tiny",
            ((3, 3, 27, 3), (96, 192, 384, 768)): "convnext_small",
            ((3, 3, 27, 3), (128, 256, 512, 1024)): "convnext_base",
            ((3, 3, 27, 3), (192, 384, 768, 1536)): "convnext_large",
            ((3, 3, 27, 3), (256, 512, 1024, 2048)): "convnext_xlarge",
        },
        *("stem.0", "head.fc", False),
    ),
    "NFNet": _Family(
        "NFNet, Brock et al. 2021, arXiv 2102.06171",
        ("num_blocks", "widths"),
        {
            (
                tuple(n * (size + 1) for n in (1, 2, 6, 3)),
                (256, 512, 1536, 1536),
            ): f"dm_nfnet_f{size}"
            for size in range(7)
        },
        *("stem.conv1", "head.fc", False),
    ),
}
# By a model's field `normalization`: what timm's user has to do, (mean, std).
_INPUT = {
    "none": ([0.5] * 3, [0.5] * 3),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


def describe(model, card: ModelCard) -> dict[str, Any]:
    """The content of config.json.

    Raises:
      BadInput: timm has no such family, or no architecture of these sizes.
    """
    family = _FAMILIES.get(model.traits.family) if hasattr(model, "traits") else None
    if family is None:
        raise errors.BadInput(
            f"a folder can have a model of {', '.join(_FAMILIES)}, and this one is a "
            f"{type(model).__name__}: convert to a .safetensors file, or use the workdir"
        )
    key = tuple(getattr(model, field) for field in family.sizes)
    if key not in family.names or getattr(model, "representation_size", 0):
        raise errors.BadInput(
            f"timm has no {model.traits.family} with {', '.join(family.sizes)} = {key}, only with "
            f"{', '.join(map(str, family.names))}: convert to a .safetensors file instead"
        )
    mean, std = _INPUT[getattr(model, "normalization", "none")]
    return {
        "architecture": family.names[key],
        "num_classes": model.num_classes,
        "global_pool": "token" if getattr(model, "pooling", "") == "token" else "avg",
        "model_args": _arguments(model, card, family),
        **({"label_names": card.classes} if card.classes else {}),
        "pretrained_cfg": {
            "num_classes": model.num_classes,
            "input_size": [card.channels, *card.image_size],
            "fixed_input_size": family.gridded,
            "pool_size": None,
            "mean": mean if card.channels == 3 else [0.5] * card.channels,
            "std": std if card.channels == 3 else [0.5] * card.channels,
            "interpolation": "bilinear",
            **crop(card),
            "first_conv": family.stem,
            "classifier": family.head,
        },
        OWN: {
            "gelu": getattr(model, "gelu", "erf"),
            "transform": card.transform,
            "decoding": card.decoding,
            "multi_label": card.multi_label,
        },
    }


def _arguments(model, card: ModelCard, family: _Family) -> dict[str, Any]:
    """What timm's model takes besides its name."""
    found: dict[str, Any] = {"img_size": card.image_size} if family.gridded else {}
    if card.channels != 3:
        found |= {"in_chans": card.channels}
    if model.traits.family == "Mixer":
        widths = model.tokens_mlp_dim, model.channels_mlp_dim
        found |= {"mlp_ratio": [_ratio(width, model.hidden_dim) for width in widths]}
    if model.traits.family == "NFNet":
        # By default timm adds 1e-5 to the variance of a kernel, which may be a percent of it.
        found |= {"std_conv_eps": 1e-12}
    if getattr(model, "pooling", "") == "gap":
        found |= {"global_pool": "avg", "class_token": False, "fc_norm": False}
    return found


def _ratio(width: int, of: int) -> float:
    """The ratio from which timm computes `width` as int(ratio * of), which rounds down."""
    ratio = width / of
    return ratio if int(ratio * of) == width else math.nextafter(ratio, math.inf)


def crop(card: ModelCard) -> dict[str, Any]:
    """timm's settings for our two ways to a fixed size; empty for other preprocessing."""
    steps = [calls.parse(step) for step in calls.split(card.transform)]
    names = [name for name, _, _ in steps]
    if names == ["resize"]:
        return {"crop_pct": 1.0, "crop_mode": "squash"}
    if names == ["resize_small", "central_crop"] and steps[0][1]:
        pct = _crop_pct(min(card.image_size), steps[0][1][0])
        found = {"crop_pct": pct, "crop_mode": "center"}
        bicubic = "bicubic" in (*steps[0][1], *steps[0][2].values())
        return found | ({"interpolation": "bicubic"} if bicubic else {})
    return {}


def _crop_pct(size: int, before: int) -> float:
    """The share from which timm computes the side `before` the crop, as floor(size / share)."""
    exact = size / before
    shares = math.floor(1e4 * exact) / 1e4, exact, math.nextafter(exact, 0)
    return next(share for share in shares if math.floor(size / share) == before)


def readme(
    name: str,
    model,
    card: ModelCard,
    config: dict[str, Any],
    *,
    repo: str = "",
    license: str = "",
    measured: Mapping[str, float] = {},
) -> str:
    """The content of README.md, the folder's page on the Hub.

    Args:
      name: of the folder.
      config: from `describe`.
      repo: ORG/NAME if it goes to the Hub.
      license: the Hub's name of one; "" leaves it out.
      measured: results of these parameters.
    """
    height, width = card.image_size
    # Only the name of a folder or file: its path should not be published.
    data = f", trained on {card.dataset.rstrip('/').rpartition('/')[2]}" if card.dataset else ""
    prepared = f"`{card.transform}`, {config['pretrained_cfg']['interpolation']}"
    if not crop(card):
        prepared = f"`{card.transform}`, for which timm has no terms: its own transform is another"
    place = f"hf-hub:{repo}" if repo else f"local-dir:{name}"
    create = f'model = timm.create_model("{place}", pretrained=True'
    gelu = f"\n    {create})\n"
    if getattr(model, "gelu", "erf") == "tanh":
        gelu = """
The network was trained with the tanh form of GELU. By default timm computes the exact GELU, which
changes the logits by about a thousandth of their size."""
        if model.traits.family == "NFNet":  # its activations are found by name
            gelu += f"\n\n    {create})\n"
        else:
            gelu += f""" To compute it as in training:

    from functools import partial
    from torch import nn
    gelu = partial(nn.GELU, approximate="tanh")
    {create}, act_layer=gelu)
"""
    classes = model.num_classes or "none, it outputs features"
    if card.multi_label:
        classes = f"{classes}, any number of them for an image: sigmoid gives probabilities"
    rows = "".join(f"| {key} | {value:.4f} |\n" for key, value in measured.items())
    table = f"\n| measure | value |\n| --- | --- |\n{rows}" if rows else ""
    return f"""---
tags:
- image-classification
- timm
pipeline_tag: image-classification
library_name: timm
{f"license: {license}" + chr(10) if license else ""}---
# {name}

{card.model["name"]} ({_FAMILIES[model.traits.family].paper}){data}.

- Architecture in timm: `{config["architecture"]}` with `{json.dumps(config["model_args"])}`
- Images: {height} x {width} pixels; in evaluation {prepared}
- Classes: {classes}
{table}
In JAX, with `mlp-mixer-jax`, whose images are in [-1, 1]:

    model, params, card = mixer.load("{f"hf://{repo}" if repo else name}")
    logits = model.apply({{"params": params}}, mixer.preprocess("*.jpg", card))

In timm:
{gelu}"""
