"""Parameters of an earlier run, with what they need to be used: the card."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import traverse_util

from mixer import errors
from mixer.checkpoint import adapt, arrays, names, resize, zoo
from mixer.checkpoint.damage import DamagedCheckpoint
from mixer.checkpoint.store import Store
from mixer.checkpoint.stored import Stored


@dataclasses.dataclass(frozen=True)
class Card:
    """What travels with parameters.

    Attributes:
      model: {"name": registered name, and every field's value}.
      image_size: (height, width) in pixels of the training; with the patch size, the grid.
      transform: the evaluation preprocessing, in the language of `mixer.data.transforms`.
      classes: the names, in the head's order.
      dataset: what they were trained on.
      imports: modules that define the model or the transforms, comma-separated.
      multi_label: whether an image may have several of the classes.
    """

    model: dict[str, Any]
    image_size: tuple[int, int]
    transform: str
    classes: tuple[str, ...]
    dataset: str
    imports: str = ""
    multi_label: bool = False

    @classmethod
    def from_json(cls, content: dict) -> "Card":
        """Inverse of `dataclasses.asdict` after JSON has made lists of tuples."""
        lists = {name: tuple(content[name]) for name in ("image_size", "classes")}
        return cls(**(content | lists))


def _open(path: str) -> Store:
    directory = epath.Path(path).expanduser() / "checkpoints"
    if not directory.exists():
        raise errors.BadInput(
            f"init_from={str(path)!r} is no workdir of a training run: {directory} does not exist"
        )
    return Store(directory, read_only=True)


def _pick(store: Store, path: str, step: int | str | None) -> int:
    steps = store.steps()
    if not steps:
        raise errors.BadInput(f"{path} holds no checkpoint yet")
    if step is None:
        return steps[-1]
    if step == "best":
        scores = {s: store.meta(s)["best"] for s in steps}
        scored = {s: score for s, score in scores.items() if score is not None}
        if not scored:
            raise errors.BadInput(f"{path} keeps no best checkpoint: train it with config.best set")
        return max(scored, key=scored.get)
    if step not in steps:
        raise errors.BadInput(f"{path} has no checkpoint of step {step!r}; it has {steps}")
    return step


def read_meta(path: str, step: int | str | None = None) -> dict:
    """The checkpoint's meta: "step", "card", "results" and what resuming needs.

    Raises:
      BadInput: no checkpoint there, or a damaged one.
    """
    with _open(path) as store:
        try:
            return store.meta(_pick(store, path, step))
        except DamagedCheckpoint as error:
            raise errors.BadInput(f"damaged checkpoint: {error}") from None


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
) -> dict[str, Any]:
    """Loads the parameters of a training run, a file or a published name for `model`.

    Args:
      path: a workdir of this project; an .npz file of a Mixer, ViT or BiT as published, or of
        `mixer.save_pretrained`; a .safetensors file of timm's; a name of `mixer.list_pretrained`;
        or the address of a file: gs://, https://, hf://ORG/REPO[/FILE]. What is fetched is kept and
        checked by its SHA-256: see `mixer.checkpoint.download`. (timm computes with the exact GELU,
        `gelu="erf"`; the paper's models were trained with "tanh".)
      model: the Module at its pretraining width. Its `num_classes` decides about the head: 0 drops
        it.
      image_size: pixels (height, width), or one number, that the parameters are to be used at, in
        `mixer.at_resolution(model, image_size, pretrained_size, method)`. By default they come as
        stored.
      pretrained_size: pixels that a file's parameters were made for. By default `image_size` if it
        has as many patches, else the square; a workdir knows.
      method: "auto", "block_diagonal" or "resample"; see `mixer.at_resolution`.
      step: of a workdir: by default the newest; a number, or "best" by the run's `config.best`.
      head: "auto" keeps a head of the right shape, else resets it (kernel 0, bias
        `model.head_bias_init`) and says so; "keep" refuses another shape; "reset".
      ema: the averaged parameters instead, of a run with `config.ema_decay`.

    Returns:
      Nested dict of float32 arrays.

    Raises:
      BadInput: no such checkpoint, a damaged one, names and shapes that do not fit, numbers that
        are not finite, or no way to that image size.
      Failure: no connection to fetch it.
    """
    located = zoo.locate(str(path))
    stored = read(located.path, model, step=step, item="ema" if ema else "params")
    if image_size is not None:
        old = stored.size(model, image_size, pretrained_size)
    fitted = adapt.fit(
        stored.arrays,
        adapt.shapes(model, stored.some_size(model, image_size)),
        head=head,
        head_bias_init=getattr(model, "head_bias_init", 0.0),
        source=stored.source,
    )
    if image_size is not None:
        fitted = resize.resize(fitted, model, resize.pair(image_size), old, method)
    return jax.tree.map(jnp.asarray, located.for_model(fitted, model))


def is_file(path: str) -> bool:
    """Whether `path` is a file of weights, or what such a file is fetched by; else a workdir."""
    return zoo.locate(path).path.endswith(arrays.ENDINGS)


def read(path: str, model, *, step: int | str | None = None, item: str = "params") -> Stored:
    """All parameters at `path`, by our names, not yet held against a model.

    Args:
      model: the Module that a file's are for, which tells how to read them; a workdir needs none.
    """
    if is_file(path):
        found, names_of = names.to_ours(arrays.read(zoo.locate(path).path), path, model)
        return Stored(found, None, f"{path} ({names_of})")
    tree, image_size, source = _from_workdir(path, step, item)
    return Stored(traverse_util.flatten_dict(tree, sep="/"), image_size, source)


def _from_workdir(path: str, step: int | str | None, item: str):
    """(parameters on the host, their image size, a name for messages)."""
    with _open(path) as store:
        try:
            chosen = _pick(store, path, step)
            meta = store.meta(chosen)
            card = Card.from_json(meta["card"])
            if item not in meta["checksums"]:
                raise errors.BadInput(
                    f"{path} keeps no averaged parameters: it was trained without config.ema_decay"
                )
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = store.abstract(chosen, item, here)
            stored = jax.device_get(store.restore(chosen, {item: abstract})[item])
        except DamagedCheckpoint as error:
            raise errors.BadInput(f"damaged checkpoint: {error}") from None
    return stored, card.image_size, f"{path} (step {chosen})"
