"""Parameters of an earlier run, with what they need to be used: the card."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from mixer import errors
from mixer.checkpoint import adapt, official, zoo
from mixer.checkpoint.store import DamagedCheckpoint, Store


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
    step: int | str | None = None,
    head: str = "auto",
    ema: bool = False,
) -> dict[str, Any]:
    """Loads the parameters of a training run, a file or a published name for `model`.

    Args:
      path: a workdir of this project, an .npz file of `mixer.save_pretrained`, a name of
        `mixer.list_pretrained`, or an address: gs://, https://, hf://ORG/REPO[/FILE]. What is
        fetched is kept and checked by its SHA-256: see `mixer.checkpoint.download`.
      model: the Module that they are for. Its `num_classes` decides about the head: 0 drops it.
      image_size: pixels (height, width) or one number; refused unless it is the stored one. By
        default the parameters come as stored.
      step: of a workdir: by default the newest; a number, or "best" by the run's `config.best`.
      head: "auto" keeps a head of the right shape, else resets it (kernel 0, bias
        `model.head_bias_init`) and says so; "keep" refuses another shape; "reset".
      ema: the averaged parameters instead, of a run with `config.ema_decay`.

    Returns:
      Nested dict of float32 arrays.

    Raises:
      BadInput: no such checkpoint, a damaged one, or names and shapes that do not fit.
      Failure: no connection to fetch it.
    """
    located = zoo.locate(str(path))
    path = located.path
    wanted = (image_size,) * 2 if isinstance(image_size, int) else image_size
    if path.endswith(".npz"):
        stored, source = official.read_npz(path), path
        stored_size = adapt.image_size(stored, wanted)
    else:
        stored, stored_size, source = _from_workdir(path, step, "ema" if ema else "params")
    if wanted is not None and tuple(wanted) != stored_size:
        raise errors.BadInput(
            f"{path} holds parameters for images of {_size(stored_size)}, not {_size(wanted)}: "
            f"use image_size={stored_size}"
        )
    fitted = adapt.fit(
        stored,
        adapt.shapes(model, stored_size),
        head=head,
        head_bias_init=getattr(model, "head_bias_init", 0.0),
        source=source,
    )
    return jax.tree.map(jnp.asarray, located.for_model(fitted, model))


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


def _size(image_size: tuple[int, int]) -> str:
    return f"{image_size[0]} x {image_size[1]}"
