"""Parameters of an earlier run, a file, a folder of the Hub or a published name, for a model."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixer import errors
from mixer.weights import fitting, resize, zoo
from mixer.weights.formats import hub_folder
from mixer.weights.located import locate
from mixer.weights.stored import Stored, read_stored

# What two Mixers have in common that differ in their resolution.
_OTHERS = ("num_blocks", "hidden_dim", "channels_mlp_dim")
# By what a model's field `normalization` says: of the input that its stem sees.
_SEEN = {
    "none": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def load_pretrained(
    path: str,
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
      path: a workdir of this project; an .npz file of a Mixer, ViT or BiT as published, of
        big_vision's trainer, or of `mixer.save_pretrained`; a .safetensors file of timm's; a folder
        of the Hugging Face Hub's, config.json and model.safetensors; a name of
        `mixer.list_pretrained`; or the address of a file: gs://, https://,
        hf://ORG/REPO[/FILE][@REVISION], where a whole REPO is read as such a folder is.
        What is fetched is kept and checked by its SHA-256: see `mixer.weights.download`.
        Prefixes that wrappers put before all names ("module.", "params/") are understood. (timm
        computes with the exact GELU, `gelu="erf"`; the paper's models were trained with "tanh".)
      model: the Module at its pretraining width. Its `num_classes` decides about the head: 0 drops
        it.
      image_size: pixels (height, width), or one number, that the parameters are to be used at, in
        `mixer.at_resolution(model, image_size, pretrained_size, method)`. By default they come as
        stored.
      pretrained_size: pixels that a file's parameters were made for. By default `image_size` if it
        has as many patches, else the square; a workdir knows.
      method: "auto", "block_diagonal" or "resample"; see `mixer.at_resolution`.
      step: of a workdir: by default the newest; a number, or "best" by the run's `config.best`.
      head: "auto" keeps a head of the right shape and classes, else resets it (kernel 0, bias
        `model.head_bias_init`) and says so; "keep" refuses another shape; "reset".
      ema: the averaged parameters instead, of a run with `config.ema_decay`.
      classes: the names of the model's classes. Where the stored head's are known (a workdir's, a
        Hub folder's label_names, ImageNet's of a published name), "auto" resets a head of others,
        and puts one of the same classes in another order into this one. Each is said.

    Returns:
      Nested dict of float32 arrays.

    Raises:
      BadInput: no such checkpoint, a damaged one, names and shapes that do not fit, numbers that
        are not finite, or no way to that image size.
      Failure: no connection to fetch it.
    """
    located = locate(str(path))
    stored = read_stored(str(path), model, step=step, item="ema" if ema else "params")
    for remark in stored.remarks:
        print(remark)
    _check_width(stored, model)
    if image_size is not None:
        old = stored.size(model, image_size, pretrained_size, report=print)
    flat, source = stored.arrays, stored.source
    if classes is not None and model.num_classes:
        if len(classes) != model.num_classes:
            raise errors.BadInput(
                f"classes has {len(classes)} names, but the model num_classes={model.num_classes}"
            )
        flat, head = fitting.for_classes(flat, head, stored.classes, classes, source)
    fitted = fitting.fit(
        flat,
        fitting.shapes(model, stored.some_size(model, image_size)),
        head=head,
        head_bias_init=getattr(model, "head_bias_init", 0.0),
        source=source,
    )
    if image_size is not None:
        fitted = resize.resize(fitted, model, resize.pair(image_size), old, method)
    if publisher := located.entry or located.folder:
        fitted = _for_our_range(fitted, model, publisher)
    return jax.tree.map(jnp.asarray, fitted)


def _check_width(stored: Stored, model) -> None:
    """Refuses a Mixer of another resolution's width, in the terms of `at_resolution`.

    Raises:
      BadInput: its `tokens_mlp_dim` is a multiple of the stored one, or the other way round.
    """
    sizes = stored.sizes(model)
    has, wants = (of.get("tokens_mlp_dim") for of in (sizes, vars(model)))
    if not has or not wants or has == wants or any(sizes[k] != getattr(model, k) for k in _OTHERS):
        return
    if wants % has == 0:
        raise errors.BadInput(
            f"{stored.source} has token-mixing MLPs of {has} units, the model of {wants}: "
            f"load_pretrained takes the model at its pretraining width, not the one that "
            f"mixer.at_resolution makes of it"
        )
    if has % wants == 0:
        raise errors.BadInput(
            f"{stored.source} has token-mixing MLPs of {has} units, the model of {wants}: were the "
            f"weights made for a higher resolution, take the model that mixer.at_resolution makes, "
            f"or tokens_mlp_dim={has}"
        )


def _for_our_range(
    params: dict[str, Any], model, publisher: zoo.Published | hub_folder.Folder
) -> dict[str, Any]:
    """A publisher's parameters (nested dict of arrays) for images in [-1, 1].

    Says so if the model's GELU is not its publisher's.

    Raises:
      BadInput: the file expects another range of the input, which this model's stem, padded
        with zeros, cannot be made to expect.
    """
    if getattr(model, "gelu", publisher.gelu) != publisher.gelu:
        print(
            f"{publisher.name} is published with gelu={publisher.gelu!r}; the model has "
            f"another form"
        )
    if publisher.mean is None or publisher.std is None:
        return params
    seen = np.array(_SEEN[getattr(model, "normalization", "none")])
    mean, std = (np.broadcast_to(of, 3) for of in (publisher.mean, publisher.std))
    if np.allclose(seen, (mean, std), atol=1e-3):
        return params
    # What is seen as (x - m) / s is expected as (x - mean) / std.
    scale, shift = seen[1] / std, (seen[0] - mean) / std
    if "stem" not in params:
        raise errors.BadInput(
            f"{publisher.name} expects images less {publisher.mean}, divided by "
            f"{publisher.std}, which cannot be made good in a {type(model).__name__}"
        )
    kernel, bias = (np.asarray(params["stem"][key], np.float64) for key in ("kernel", "bias"))
    stem = {
        "kernel": kernel * scale[:, None],
        "bias": bias + np.einsum("hwic,i->c", kernel, shift),
    }
    return params | {"stem": jax.tree.map(np.float32, stem)}
