"""A folder of weights as the Hugging Face Hub and timm take it: architecture, arrays, a card."""

import json
import math
from pathlib import Path
from typing import Any

from mixer import calls, errors, storage
from mixer.checkpoint import official
from mixer.checkpoint.formats import hub_config
from mixer.checkpoint.model_card import Card

# timm's names, by patch size, blocks and width; the MLPs' widths and the image size are arguments.
_ARCHITECTURES = {
    (32, 8, 512): "mixer_s32_224",
    (16, 8, 512): "mixer_s16_224",
    (32, 12, 768): "mixer_b32_224",
    (16, 12, 768): "mixer_b16_224",
    (32, 24, 1024): "mixer_l32_224",
    (16, 24, 1024): "mixer_l16_224",
}


def save_folder(path: str, params: dict[str, Any], model, card: Card) -> None:
    """Writes model.safetensors, config.json and README.md to a new folder.

    Args:
      path: the folder; it appears complete or not at all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for.
      card: image size, preprocessing, classes and data of the training.

    Raises:
      BadInput: the folder exists or cannot be written, timm has no architecture of these sizes, or
        the parameters are not the model's.
    """
    folder = Path(path).expanduser()
    config = describe(model, card)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with storage.write_whole_folder(folder) as new:
            weights = new / hub_config.WEIGHTS
            official.save_pretrained(weights, params, model, card.image_size)
            (new / hub_config.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            (new / "README.md").write_text(_readme(folder.name, model, card, config))
    except OSError as error:
        raise errors.BadInput(f"{str(path)!r} cannot be written: {error}") from None


def describe(model, card: Card) -> dict[str, Any]:
    """The content of config.json.

    Raises:
      BadInput: no Mixer, or timm has no architecture of these sizes.
    """
    if not hasattr(model, "tokens_mlp_dim"):
        raise errors.BadInput(
            f"folders are made of Mixers only, and the model is a {type(model).__name__}: convert "
            f"to a .safetensors file instead"
        )
    key = tuple(getattr(model, f, None) for f in ("patch_size", "num_blocks", "hidden_dim"))
    if key not in _ARCHITECTURES:
        raise errors.BadInput(
            f"timm has no Mixer of patch_size, num_blocks, hidden_dim = {key}, only of "
            f"{', '.join(map(str, _ARCHITECTURES))}: convert to a .safetensors file instead"
        )
    widths = model.tokens_mlp_dim, model.channels_mlp_dim
    return {
        "architecture": _ARCHITECTURES[key],
        "num_classes": model.num_classes,
        "num_features": model.hidden_dim,
        "global_pool": "avg",
        "model_args": {
            "img_size": card.image_size,
            "mlp_ratio": [_ratio(width, model.hidden_dim) for width in widths],
        },
        **({"label_names": card.classes} if card.classes else {}),
        "pretrained_cfg": {
            "num_classes": model.num_classes,
            "input_size": [3, *card.image_size],
            "fixed_input_size": True,
            "pool_size": None,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bilinear",
            **_crop(card),
            "first_conv": "stem.proj",
            "classifier": "head",
        },
        hub_config.OWN: {"gelu": model.gelu, "transform": card.transform},
    }


def _ratio(width: int, of: int) -> float:
    """timm makes `width` of it by int(ratio * of), which rounds down."""
    ratio = width / of
    return ratio if int(ratio * of) == width else math.nextafter(ratio, math.inf)


def _crop(card: Card) -> dict[str, Any]:
    """timm's terms for our two ways to a fixed size; nothing for other preprocessing."""
    steps = [calls.parse(step) for step in calls.split(card.transform)]
    names = [name for name, _, _ in steps]
    if names == ["resize"]:
        return {"crop_pct": 1.0, "crop_mode": "squash"}
    if names == ["resize_small", "central_crop"] and steps[0][1]:
        # timm resizes the smaller side to floor(size / crop_pct).
        pct = math.floor(1e4 * min(card.image_size) / steps[0][1][0]) / 1e4
        found = {"crop_pct": pct, "crop_mode": "center"}
        bicubic = "bicubic" in (*steps[0][1], *steps[0][2].values())
        return found | ({"interpolation": "bicubic"} if bicubic else {})
    return {}


def _readme(name: str, model, card: Card, config: dict[str, Any]) -> str:
    height, width = card.image_size
    # A folder of images by its name alone: where it lies is nobody's business.
    data = f", trained on {card.dataset.rpartition('/')[2]}" if card.dataset else ""
    resizing = config["pretrained_cfg"]["interpolation"]
    call = f'timm.create_model("local-dir:{name}", pretrained=True)'
    if model.gelu == "tanh":
        gelu = f"""
The network was trained with the tanh form of GELU. timm computes the exact one, which changes the
logits by about a thousandth of their size, unless it is told to do as in training:

    from functools import partial
    from torch import nn
    gelu = partial(nn.GELU, approximate="tanh")
    model = {call.replace(")", ", act_layer=gelu)")}
"""
    else:
        gelu = f"\n    model = {call}\n"
    return f"""---
tags:
- image-classification
- timm
pipeline_tag: image-classification
library_name: timm
---
# {name}

{card.model["name"]} (MLP-Mixer, Tolstikhin et al. 2021, arXiv 2105.01601){data}.

- Architecture in timm: `{config["architecture"]}` with `{json.dumps(config["model_args"])}`
- Images: {height} x {width} pixels in [-1, 1]; in evaluation `{card.transform}`, {resizing}
- Classes: {model.num_classes or "none, it gives features"}
{gelu}"""
