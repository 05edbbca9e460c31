"""Fits stored parameters to a model: checks every name, shape and number; handles the head."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from mixer import batch as batch_lib
from mixer import errors
from mixer.weights.formats.names import in_order

HEADS = ("auto", "keep", "reset")


def check_module(model: Any) -> None:
    """Raises TypeError if `model` is not a module, such as its name."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}: expected a module, as mixer.create_model and "
            f"mixer.load return it"
        )


def fit(
    stored: dict[str, np.ndarray],
    expected: dict[str, Any],
    *,
    head: str,
    head_bias_init: float,
    source: str,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Returns `stored` as the tree `expected`, the head kept, reset or dropped.

    Args:
      stored: arrays by name, such as "stem/kernel".
      expected: nested dict of anything with a shape, as the model would initialise them; without
        "head" the stored head is dropped.
      head: "auto" keeps a head of the right shape, else resets it and reports it; "keep" refuses
        another shape; "reset" sets the kernel to 0 and the bias to `head_bias_init`. A kept head
        of zeros is reported: the published ImageNet-21k heads are zero. A stored representation
        layer that the model does not have is dropped and reported; a head on top of it is not kept.
      source: where `stored` comes from, for the messages.

    Raises:
      BadInput: names or shapes differ (all are listed), or numbers are not finite.
    """
    if head not in HEADS:
        raise errors.unknown("value of head", head, HEADS)
    flat = dict(stored)
    wanted = traverse_util.flatten_dict(expected, sep="/")
    head_names = [name for name in wanted if name.startswith("head/")]
    fits = all(name in flat and flat[name].shape == wanted[name].shape for name in head_names)
    layer = "representation/kernel"
    if layer in flat and layer not in wanted:
        width = flat[layer].shape[-1]
        if head_names and head == "keep":
            raise errors.BadInput(
                f"{source}: its head is on top of a representation layer of {width} units: set the "
                f"model's representation_size={width}, or head='reset'"
            )
        report(f"{source}: its representation layer of {width} units is not in the model: dropped")
        flat = {name: value for name, value in flat.items() if not name.startswith(layer[:-6])}
        fits = False
    if head_names and (head == "reset" or (head == "auto" and not fits)):
        if head == "auto":
            classes = wanted["head/bias"].shape[0]
            had = f"has {flat['head/bias'].size} classes" if "head/bias" in flat else "has none"
            report(f"{source}: its head {had}; a new one for {classes} classes starts at zero")
        flat["head/kernel"] = np.zeros(wanted["head/kernel"].shape, np.float32)
        flat["head/bias"] = np.full(wanted["head/bias"].shape, head_bias_init, np.float32)
    elif head_names and "head/kernel" in flat and not np.any(flat["head/kernel"]):
        report(
            f"{source}: its head's kernel is all zeros (not damaged: the published ImageNet-21k "
            f"heads are), so every image gets the same logits; train it, or use the features"
        )
    if not head_names:
        flat = {name: value for name, value in flat.items() if not name.startswith("head/")}
    compare(flat, wanted, source)
    return traverse_util.unflatten_dict({name: flat[name] for name in wanted}, sep="/")


def for_classes(
    stored: dict[str, np.ndarray],
    head: str,
    had: Sequence[str],
    classes: Sequence[str],
    source: str,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, np.ndarray], str]:
    """The arrays with the head arranged for `classes`, and the `head` argument for `fit`.

    A head with the same classes in another order is reordered. One with as many classes, but other
    ones, is reset if `head` is "auto". Both are reported, as is keeping a head of unknown classes.

    Args:
      had: class names of the stored head, in its order; empty if unknown.
      classes: the class names of the model, in its order.
    """
    count = stored["head/bias"].size if "head/bias" in stored else 0
    if head == "reset" or count != len(classes) or tuple(had) == tuple(classes):
        return stored, head
    if len(had) != count:
        if head == "auto":
            report(f"{source}: its head of {count} classes is kept, but their names are unknown")
        return stored, head
    if len(set(had)) == len(had) and set(had) == set(classes):
        places = [had.index(name) for name in classes]
        report(f"{source}: its head has the same classes in another order, and is reordered")
        heads = {name: v[..., places] for name, v in stored.items() if name.startswith("head/")}
        return stored | heads, head
    report(
        f"{source}: its head is for other classes, {_some(had)}, than {_some(classes)}: "
        + ("a new one starts at zero" if head == "auto" else "kept as requested")
    )
    return stored, "reset" if head == "auto" else head


def _some(classes: Sequence[str]) -> str:
    return ", ".join(map(str, classes[:3])) + (", ..." if len(classes) > 3 else "")


def compare(flat: dict[str, np.ndarray], wanted: dict[str, Any], source: str) -> None:
    """Checks that names and shapes are exactly those of `wanted`, and that numbers are finite.

    Raises:
      BadInput: one line that lists all differences, grouping those of several blocks.
    """
    both = [name for name in wanted if name in flat]
    differ = [name for name in both if flat[name].shape != wanted[name].shape]
    problems = [f"missing: {names}" for names in abbreviated(wanted.keys() - flat.keys(), wanted)]
    problems += [f"not in the model: {names}" for names in abbreviated(flat.keys() - wanted, flat)]
    by_shapes = {}
    for name in differ:
        by_shapes.setdefault((flat[name].shape, wanted[name].shape), []).append(name)
    for (has, needs), names in by_shapes.items():
        turned = " (transposed?)" if has == needs[::-1] else ""
        problems += [
            f"{those}: {has}{turned}, the model needs {needs}" for those in abbreviated(names)
        ]
    if problems:
        raise errors.BadInput(f"{source} does not fit the model: {'; '.join(problems)}")
    for name in both:
        if not np.isfinite(flat[name]).all():
            bad = flat[name].size - np.isfinite(flat[name]).sum()
            raise errors.BadInput(
                f"{source}: {bad} of the {flat[name].size} numbers of {name} are NaN or infinite; "
                f"use an undamaged copy"
            )


def abbreviated(names, known=()) -> list[str]:
    """Array names, shortened: a module's own name if all of its `known` arrays are among them, and
    one name for those that differ only in the block number, as MixerBlock_{2,5}/LayerNorm_0/bias.
    """
    names, merged = set(names), {}
    for module in {name.partition("/")[0] for name in names}:
        arrays = {name for name in known if name.partition("/")[0] == module}
        if len(arrays) > 1 and arrays <= names:
            names = (names - arrays) | {module}
    for name in in_order(names):
        start, number, rest = re.fullmatch(r"(\D*_)?(\d*)(.*)", name).groups()
        merged.setdefault((start, rest), []).append(number)
    return [f"{start or ''}{_span(numbers)}{rest}" for (start, rest), numbers in merged.items()]


def _span(numbers: list[str]) -> str:
    """3, {0..11} or {0,2,10}."""
    first, last = numbers[0], numbers[-1]
    if len(numbers) == 1:
        return first
    whole = len(numbers) == int(last) - int(first) + 1
    return f"{{{first}..{last}}}" if whole else f"{{{','.join(numbers)}}}"


def shapes(model, image_size: tuple[int, int]) -> dict[str, Any]:
    """The parameters' shapes as the model initialises them for this image size."""
    try:
        hash(model)
    except TypeError:  # a field of somebody's own model
        return _traced(model, image_size)
    return jax.tree.map(lambda leaf: leaf, _remembered(model, tuple(image_size)))  # a new tree


def _traced(model, image_size: tuple[int, int]) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, *image_size, batch_lib.channels(model)), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


_remembered = functools.lru_cache(maxsize=64)(_traced)  # a run asks several times for the same
