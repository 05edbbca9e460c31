"""Loads parameters from a run, a file, a Hub folder or a published name for a model."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixer import batch as batch_lib
from mixer import errors
from mixer.weights import channels, fitting, resize, zoo
from mixer.weights.formats import hub_folder
from mixer.weights.located import locate
from mixer.weights.stored import Stored, read_stored

# Fields of a Mixer that do not change with the resolution.
_FIXED = ("num_blocks", "hidden_dim", "channels_mlp_dim")
# By a model's field `normalization`: (mean, std) with which its stem's input is normalized.
_INPUT_STATS = {
    "none": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def load_pretrained(
    path: str | os.PathLike[str],
    model,
    *,
    image_size: int | tuple[int, int] | None = None,
    pretrained_size: int | tuple[int, int] | None = None,
    method: str = "auto",
    step: int | str | None = None,
    head: str = "auto",
    ema: bool = False,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Loads the parameters of a training run, a file or a published name for `model`.

    Args:
      path: a workdir of this project; an .npz file: a published Mixer, ViT or BiT, or written by
        big_vision's trainer or `mixer.save_pretrained`; a .safetensors file in timm's naming; a
        folder with config.json and model.safetensors, as on the Hugging Face Hub; a name from
        `mixer.list_pretrained`; or the address of a file: gs://, https://,
        hf://ORG/REPO[/FILE][@REVISION], where a REPO without FILE is read like such a folder.
        Downloads are cached, and their SHA-256 is checked: see `mixer.weights.download`.
        Prefixes that wrappers add to all names ("module.", "params/") are removed. (timm computes
        the exact GELU, `gelu="erf"`; the paper's models were trained with "tanh".)
      model: the Module at its pretraining width; `num_classes=0` drops the head. If its images are
        not RGB and the weights are for RGB, the stem is adapted as in timm, and a line says so.
      image_size: pixels (height, width), or one number, at which the parameters will be used, with
        `mixer.at_resolution(model, image_size, pretrained_size, method)`. By default they are
        returned as stored.
      pretrained_size: pixels that a file's parameters were made for. By default `image_size` if it
        has as many patches, else a square; a workdir records it.
      method: "auto", "block_diagonal" or "resample"; see `mixer.at_resolution`.
      step: for a workdir: a number, or "best" by the run's `config.best`; the newest by default.
      head: "auto" keeps a head of the right shape and classes, else resets it (kernel 0, bias
        `model.head_bias_init`) and prints so; "keep" refuses another shape; "reset".
      ema: whether to load the averaged parameters, of a run with `config.ema_decay`.
      classes: the model's class names. If the stored head's are known (from a workdir, a Hub
        folder's label_names, or ImageNet's for a published name), "auto" resets a head with other
        classes and reorders one with the same classes in another order. Either is printed.

    Returns:
      Nested dict of float32 arrays.

    Raises:
      BadInput: the checkpoint does not exist or is damaged, names or shapes do not fit, numbers are
        not finite, or the parameters cannot be resized to that image size.
      Failure: no connection to fetch it.
    """
    fitting.check_module(model)
    path = os.fspath(path)
    located = locate(path)
    stored = read_stored(path, model, step=step, item="ema" if ema else "params")
    for remark in stored.remarks:
        print(remark)
    _check_width(stored, model)
    asked, some_size = model, stored.some_size(model, image_size)
    if batch_lib.channels(asked) != channels.RGB and channels.are_rgb(
        stored.arrays, fitting.shapes(asked, some_size)
    ):
        model = asked.clone(in_chans=channels.RGB)
    if image_size is not None:
        old = stored.size(model, image_size, pretrained_size, report=print)
    flat, source = stored.arrays, stored.source
    if classes is not None and model.num_classes:
        if len(classes) != model.num_classes:
            raise errors.BadInput(
                f"classes has {len(classes)} names, the model num_classes={model.num_classes}"
            )
        flat, head = fitting.for_classes(flat, head, stored.classes, classes, source)
    fitted = fitting.fit(
        flat,
        fitting.shapes(model, some_size),
        head=head,
        head_bias_init=getattr(model, "head_bias_init", 0.0),
        source=source,
    )
    if image_size is not None:
        fitted = resize.resize(fitted, model, resize.pair(image_size), old, method)
    if publisher := located.entry or located.folder:
        fitted = _for_our_range(fitted, model, publisher)
    if model is not asked:
        size = some_size if image_size is None else resize.pair(image_size)
        at_size = asked if image_size is None else resize.at_resolution(asked, size, old, method)
        fitted = channels.from_rgb(fitted, fitting.shapes(at_size, size), source)
    return jax.tree.map(jnp.asarray, fitted)


def _check_width(stored: Stored, model) -> None:
    """Refuses a Mixer whose token-mixing width is that of another resolution (`at_resolution`).

    Raises:
      BadInput: its `tokens_mlp_dim` is a multiple of the stored one, or the other way round.
    """
    sizes = stored.sizes(model)
    has, wants = (of.get("tokens_mlp_dim") for of in (sizes, vars(model)))
    if not has or not wants or has == wants or any(sizes[k] != getattr(model, k) for k in _FIXED):
        return
    if wants % has == 0:
        raise errors.BadInput(
            f"{stored.source} has token-mixing MLPs of {has} units, the model of {wants}: "
            f"load_pretrained takes the model at its pretraining width, not the one that "
            f"mixer.at_resolution returns"
        )
    if has % wants == 0:
        raise errors.BadInput(
            f"{stored.source} has token-mixing MLPs of {has} units, the model of {wants}: if the "
            f"weights were made for a higher resolution, use the model that mixer.at_resolution "
            f"returns, or tokens_mlp_dim={has}"
        )


def _for_our_range(
    params: dict[str, Any], model, publisher: zoo.Published | hub_folder.Folder
) -> dict[str, Any]:
    """A publisher's parameters (nested dict of arrays), adapted to images in [-1, 1].

    Prints a line if the model's GELU differs from the publisher's.

    Raises:
      BadInput: the file expects another input range, which cannot be folded into this model's
        zero-padded stem.
    """
    if getattr(model, "gelu", publisher.gelu) != publisher.gelu:
        print(
            f"{publisher.name} is published with gelu={publisher.gelu!r}; the model uses "
            f"gelu={model.gelu!r}"
        )
    if publisher.mean is None or publisher.std is None:
        return params
    count = batch_lib.channels(model)
    seen = np.array(_INPUT_STATS[getattr(model, "normalization", "none")])
    seen = seen if count == channels.RGB else np.full((2, count), 0.5)
    mean, std = (np.broadcast_to(of, count) for of in (publisher.mean, publisher.std))
    if np.allclose(seen, (mean, std), atol=1e-3):
        return params
    # The stem sees (x - m) / s, but its weights expect (x - mean) / std.
    scale, shift = seen[1] / std, (seen[0] - mean) / std
    if "stem" not in params:
        raise errors.BadInput(
            f"{publisher.name} expects images normalized by mean {publisher.mean} and std "
            f"{publisher.std}, which cannot be folded into the stem of a {type(model).__name__}"
        )
    kernel, bias = (np.asarray(params["stem"][key], np.float64) for key in ("kernel", "bias"))
    stem = {
        "kernel": kernel * scale[:, None],
        "bias": bias + np.einsum("hwic,i->c", kernel, shift),
    }
    return params | {"stem": jax.tree.map(np.float32, stem)}
