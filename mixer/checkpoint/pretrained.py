"""Parameters of an earlier run, a file, a folder of the Hub or a published name, for a model."""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import traverse_util

from mixer import errors
from mixer.checkpoint import download, fitting, folders, formats, official, resize
from mixer.checkpoint.damage import DamagedCheckpoint
from mixer.checkpoint.formats import names, wrapping
from mixer.checkpoint.located import Located, locate
from mixer.checkpoint.model_card import Card
from mixer.checkpoint.reading import Gone, again_if_gone
from mixer.checkpoint.store import Store
from mixer.checkpoint.stored import Stored

# What two Mixers have in common that differ in their resolution.
_OTHERS = ("num_blocks", "hidden_dim", "channels_mlp_dim")


def _open(path: str) -> Store:
    directory = epath.Path(path).expanduser() / "checkpoints"
    # While the only step is saved again it lies in the second; in a bucket the first is then gone.
    there = [f for f in (directory, folders.replaced(directory)) if f.exists()]
    if not there:
        raise errors.BadInput(
            f"{str(path)!r} is no workdir of a training run: {directory} does not exist"
        )
    for folder in there:
        store = Store(folder, read_only=True)
        if store.steps():
            break
    return store


def _pick(store: Store, path: str, step: int | str | None) -> int:
    steps = store.steps()
    if not steps:
        # A list that is made while checkpoints come and go may miss the old and the new one.
        raise Gone(f"{path} holds no checkpoint yet")
    if step is None:
        return steps[-1]
    if step == "best":
        scored = {s: score for s in steps if (score := _score(store, s)) is not None}
        if not scored:
            raise errors.BadInput(f"{path} keeps no best checkpoint: train it with config.best set")
        return max(scored, key=lambda each: scored[each])
    if step not in steps:
        raise Gone(f"{path} has no checkpoint of step {step!r}; it has {steps}")
    return step


def _score(store: Store, step: int) -> float | None:
    """What the best is chosen by, where it is known."""
    try:
        return store.meta(step).get("best")
    except DamagedCheckpoint as error:
        if store.holds(step):
            print(f"damaged checkpoint, passed over: {error}", flush=True)
        return None


def _trouble(store: Store, path: str, step: int, error: DamagedCheckpoint) -> errors.BadInput:
    """The error to raise, which tells a damaged checkpoint from one that is there no more."""
    if store.holds(step):
        return errors.BadInput(f"damaged checkpoint: {error}")
    return Gone(f"{path}: checkpoint {step} was removed while it was read")


@again_if_gone
def read_meta(path: str, step: int | str | None = None) -> dict:
    """The checkpoint's meta: "step", "card", "results" and what resuming needs.

    Raises:
      BadInput: no checkpoint there, or a damaged one.
    """
    with _open(path) as store:
        chosen = _pick(store, path, step)
        try:
            return store.meta(chosen)
        except DamagedCheckpoint as error:
            raise _trouble(store, path, chosen, error) from None


def newest_card(workdir: epath.Path) -> Card | None:
    """That of the newest checkpoint in a workdir which is not damaged; None if there is none."""
    if folders.newest(workdir / "checkpoints") is None:
        return None
    with _open(str(workdir)) as store:
        for step in reversed(store.steps()):
            with contextlib.suppress(DamagedCheckpoint):
                return Card.from_json(store.meta(step)["card"])
    return None


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
        hf://ORG/REPO[/FILE][@REVISION].
        What is fetched is kept and checked by its SHA-256: see `mixer.checkpoint.download`.
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
    stored = read(str(path), model, step=step, item="ema" if ema else "params")
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
    return jax.tree.map(jnp.asarray, located.for_model(fitted, model))


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


def is_file(path: str) -> bool:
    """Whether `path` is a file of weights, or what such a file is fetched by; else a workdir."""
    return locate(path).is_file


def read(path: str, model, *, step: int | str | None = None, item: str = "params") -> Stored:
    """All parameters at `path`, by our names, not yet held against a model.

    Args:
      model: the Module that a file's are for, which tells how to read them; a workdir needs none.
      step, item: which of a workdir's.

    Raises:
      BadInput: nothing usable there, or one of several asked of a file.
    """
    located, path = locate(path), download.without_login(path)
    if not located.is_file:
        return _from_workdir(path, step, item)
    if step is not None or item != "params":
        raise errors.BadInput(
            f"{path!r} holds one set of parameters: a step, or averaged ones, are a workdir's"
        )
    return _from_file(path, located, model)


def _from_file(path: str, located: Located, model) -> Stored:
    content, remarks = wrapping.unwrapped(
        formats.read(located.path), path, lambda flat: names.of_family(flat, path, model)
    )
    found, names_of = names.to_ours(content, path, model)
    publisher = located.entry or located.folder
    stored = Stored(
        found,
        (publisher and publisher.image_size) or official.image_size(located.path),
        f"{path} ({names_of})",
        classes=publisher.class_names if publisher else (),
        remarks=(*remarks, *(located.folder.remarks if located.folder else ())),
    )
    if stored.image_size is None:
        return stored
    count = stored.patches(model)
    if count is None or count * model.patch_size**2 == math.prod(stored.image_size):
        return stored
    height, width = stored.image_size
    remark = (
        f"{path} says that it is for {height} x {width} pixels, but holds weights for {count} "
        f"patches of {model.patch_size}: they count"
    )
    return dataclasses.replace(stored, image_size=None, remarks=(*stored.remarks, remark))


@again_if_gone
def _from_workdir(path: str, step: int | str | None, item: str) -> Stored:
    with _open(path) as store:
        chosen = _pick(store, path, step)
        try:
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
            raise _trouble(store, path, chosen, error) from None
    flat = traverse_util.flatten_dict(stored, sep="/")
    return Stored(flat, card.image_size, f"{path} (step {chosen})", classes=card.classes)
