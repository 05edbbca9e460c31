"""Reads and describes Hub folders, as timm writes them: config.json and model.safetensors.

`find` reads a local folder, `described` two downloaded files. hub_page.py has the text of new ones.
"""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

from mixer import errors
from mixer.weights import formats

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# The config key for what timm has no terms for; written by config.run="convert".
OWN = "mlp_mixer_jax"
# timm's architectures without the resolution -> our registered models.
ARCHITECTURES = {
    "mixer_s32": "Mixer-S/32",
    "mixer_s16": "Mixer-S/16",
    "mixer_b32": "Mixer-B/32",
    "mixer_b16": "Mixer-B/16",
    "mixer_l32": "Mixer-L/32",
    "mixer_l16": "Mixer-L/16",
    "vit_tiny_patch16": "ViT-Ti/16",
    "vit_small_patch32": "ViT-S/32",
    "vit_small_patch16": "ViT-S/16",
    "vit_base_patch32": "ViT-B/32",
    "vit_base_patch16": "ViT-B/16",
    "vit_large_patch32": "ViT-L/32",
    "vit_large_patch16": "ViT-L/16",
    "vit_huge_patch14": "ViT-H/14",
    **{f"resnetv2_{size}_bit": f"BiT-R{size}" for size in ("50x1", "50x3", "101x1", "101x3")},
    **{f"resnetv2_{size}_bit": f"BiT-R{size}" for size in ("152x2", "152x4")},
    "resmlp_12": "ResMLP-S12",
    "resmlp_24": "ResMLP-S24",
    "resmlp_36": "ResMLP-S36",
    "resmlp_big_24": "ResMLP-B24/8",
    "gmlp_ti16": "gMLP-Ti",
    "gmlp_s16": "gMLP-S",
    "gmlp_b16": "gMLP-B",
    "convnext_tiny": "ConvNeXt-T",
    "convnext_small": "ConvNeXt-S",
    "convnext_base": "ConvNeXt-B",
    "convnext_large": "ConvNeXt-L",
    "convnext_xlarge": "ConvNeXt-XL",
    **{f"dm_nfnet_f{size}": f"NFNet-F{size}" for size in range(7)},
}
_RESOLUTION = re.compile(r"_\d{3}$")


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder's description of its weights.

    Attributes:
      name: its path, for messages.
      weights: the weights file.
      model: the registered model of its architecture, whose sizes the arrays may override.
      gelu: the form that its publisher computes, "tanh" or "erf".
      pooling: "gap" for a ViT without a class token; else "".
      class_names: in the head's order; empty if not given.
      image_size: (height, width) in pixels; None if not given.
      transform: evaluation preprocessing for `mixer.data.transforms`; empty if not given.
      decoding, multi_label: as in `ModelCard`.
      mean, std: of the input that the weights expect, (pixel / 255 - mean) / std by channel; None
        for what the model's family does.
      remarks: sentences on what was not understood.
    """

    name: str
    weights: Path
    model: str
    gelu: str
    pooling: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int] | None
    transform: str
    decoding: str
    multi_label: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    remarks: tuple[str, ...]


def find(path: str) -> Folder | None:
    """The Hub folder at `path`; None for anything else, such as a workdir.

    Raises:
      BadInput: the folder is incomplete, of another library, or of an unknown model.
    """
    folder = Path(path).expanduser()
    if "://" in path or not folder.is_dir() or (folder / "checkpoints").exists():
        return None
    weights, config = folder / WEIGHTS, folder / CONFIG
    if not config.exists() and not weights.exists():
        return None
    if not weights.exists():
        if "architecture" not in _read(config):
            return None  # a workdir without a checkpoint
        others = sorted(file.name for file in folder.iterdir() if file.suffix in formats.PICKLES)
        why = formats.from_torch(folder / others[0], weights) if others else "it is incomplete"
        if (folder / f"{WEIGHTS}.index.json").exists():
            why = "its weights are in several files, but only a single file can be read"
        raise errors.BadInput(f"{path!r} has no {WEIGHTS}: {why}")
    return described(path, weights, config)


def described(name: str, weights: Path, config: Path) -> Folder:
    """The description of a weights file by its config.json.

    Args:
      name: the path or address that `locate` resolved to both files, for messages.

    Raises:
      BadInput: the config is of another library or of an unknown model.
    """
    content = _read(config)
    try:
        return _folder(name, weights, content)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise errors.BadInput(f"{str(config)!r} does not have timm's form: {error!r}") from None


def _read(config: Path) -> dict[str, Any]:
    try:
        content = json.loads(config.read_text())
    except FileNotFoundError:
        raise errors.BadInput(
            f"{str(config.parent)!r} has {WEIGHTS} but no {CONFIG}: give the weights file itself"
        ) from None
    except (OSError, ValueError) as error:
        raise errors.BadInput(f"{str(config)!r} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise errors.BadInput(f"{str(config)!r}: expected a JSON object")
    return content


def _folder(path: str, weights: Path, content: dict[str, Any]) -> Folder:
    asked = content.get("architecture")
    if not isinstance(asked, str):
        other = ", it is from transformers" if "model_type" in content else ""
        raise errors.BadInput(
            f"{path!r}: its {CONFIG} names no timm architecture{other}: give the file itself"
        )
    architecture = _RESOLUTION.sub("", asked.partition(".")[0])
    if architecture not in ARCHITECTURES:
        raise errors.unknown(f"architecture in {path}/{CONFIG}", asked, ARCHITECTURES)
    cfg = content.get("pretrained_cfg", content)
    own, remarks = content.get(OWN, {}), []
    size = content.get("model_args", {}).get("img_size") or cfg.get("input_size", (0, 0, 0))[1:]
    size = (size, size) if isinstance(size, int) else tuple(size)
    size = size if min(size) > 0 else None
    classes = content.get("label_names") or cfg.get("label_names") or ()
    if isinstance(classes, dict):  # by number
        classes = [classes[str(i)] for i in range(len(classes))]
    return Folder(
        name=path,
        weights=weights,
        model=ARCHITECTURES[architecture],
        gelu=own.get("gelu", "erf"),
        pooling="gap" if content.get("model_args", {}).get("class_token") is False else "",
        class_names=tuple(map(str, classes)),
        image_size=size,
        transform=own.get("transform") or _transform(cfg, size, remarks),
        decoding=own.get("decoding", "auto"),
        multi_label=bool(own.get("multi_label", False)),
        mean=cfg.get("mean") and tuple(cfg["mean"]),
        std=cfg.get("std") and tuple(cfg["std"]),
        remarks=tuple(f"{path}: {remark}" for remark in remarks),
    )


def _transform(cfg: dict[str, Any], size: tuple[int, int] | None, remarks: list[str]) -> str:
    """Our preprocessing string for timm's settings; differences are added to `remarks`."""
    if size is None or "crop_pct" not in cfg:
        return ""
    mode, resizing = cfg.get("crop_mode") or "center", cfg.get("interpolation") or "bicubic"
    if mode == "squash" and cfg["crop_pct"] == 1:
        if resizing != "bilinear":
            remarks.append(f"its images are resized by {resizing!r}, but bilinearly here")
        return "resize"
    if mode != "center":
        remarks.append(f"its crop_mode {mode!r} is not supported: using a center crop")
    before = tuple(math.floor(side / cfg["crop_pct"]) for side in size)
    if size[0] != size[1]:
        remarks.append(f"its images keep their ratio before the crop, but here become {before}")
        return f"resize({before})|central_crop"
    if resizing not in ("bilinear", "bicubic"):
        remarks.append(f"its images are resized by {resizing!r}, but by area here")
    method = ", method='bicubic'" if resizing == "bicubic" else ""
    return f"resize_small({before[0]}{method})|central_crop"
