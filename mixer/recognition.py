"""Finds the registered model of a weights file by the names and shapes of its arrays."""

import re

import numpy as np
from flax import linen as nn
from flax import traverse_util

from mixer import errors
from mixer.models import registry
from mixer.weights import fitting, formats
from mixer.weights.formats import names
from mixer.weights.formats.names import FAMILIES
from mixer.weights.formats.names.table import Arrays
from mixer.weights.stored import Stored

_BLOCK = re.compile(r"(\w*(?:block|unit)_\d+)/", re.IGNORECASE)  # blocks of all families


def parameters(path: str, source: str) -> Arrays:
    """The arrays of a file of any model family, under the file's names without prefixes.

    Args:
      source: name of the file in messages.

    Raises:
      BadInput: the file cannot be read, or belongs to no known family.
    """
    flat, _ = names.unwrapped(
        formats.read(path), source, lambda flat: bool(names.families_of(flat))
    )
    if not names.families_of(flat):
        some = ", ".join(sorted(flat)[:5]) or "nothing"
        raise errors.BadInput(
            f"{source} contains no known parameters: expected those of a {', '.join(FAMILIES)} "
            f"under their published names or timm's, found {some}"
        )
    return flat


def recognise(flat: Arrays, size: tuple[int, int] | None, source: str) -> str:
    """The name of the registered model with these parameters.

    Args:
      flat: result of `parameters`.
      size: (height, width) of the images they are for, if the file records it.
      source: name of the file in messages.

    Raises:
      BadInput: no registered model fits, or several do.
    """
    families = names.families_of(flat)
    ours = sorted({registry.known_as(name) for name in registry.list_models()})
    known = {name: registry.create_model(name, 0) for name in ours}
    known = {name: model for name, model in known.items() if names.family_of(model) in families}
    found = [name for name, model in known.items() if _fits(flat, model, size, source)]
    if len(found) == 1:
        return found[0]
    family = " or ".join(family.name for family in families)
    if found:
        raise errors.BadInput(
            f"{source} fits several models, {', '.join(found)}: choose one by model={found[0]!r}"
        )
    contains = f"{source} contains the parameters of a {family}"
    if fields := _inferred_fields(flat, known, source):
        near = max(known, key=lambda name: _equal_fields(known[name], fields))
        if _equal_fields(known[near], fields) == len(fields):
            return near  # arrays are missing or left over; `load_pretrained` lists them
        sizes = ", ".join(f"{field}={value}" for field, value in fields.items())
        raise errors.BadInput(
            f"{contains} of {sizes}, but no registered model has these sizes: model={near!r} takes "
            f"them from the arrays"
        )
    raise errors.BadInput(
        f"{contains}, but of other shapes than {', '.join(known)}: mixer.register_model adds "
        f"yours, and mixer.load_pretrained takes any Module"
    )


def _fits(flat: Arrays, model: nn.Module, size: tuple[int, int] | None, source: str) -> bool:
    """Whether the file contains all parameters of the model, and no other block."""
    try:
        stored = Stored(names.to_ours(flat, source, model)[0], size, source)
        if any(getattr(model, field) != value for field, value in stored.sizes(model).items()):
            return False
        image_size = stored.some_size(model)
    except errors.BadInput:  # the arrays are arranged differently from this model's
        return False
    # Checked before the shapes, which take a second for a deep model.
    blocks = {match[1] for name in stored.arrays if (match := _BLOCK.match(name))}
    if len(blocks) != np.sum(getattr(model, "num_blocks", len(blocks))):
        return False
    head = stored.arrays.get("head/bias")
    model = model.clone(num_classes=0 if head is None else head.size)
    wanted = traverse_util.flatten_dict(fitting.shapes(model, image_size), sep="/")
    shapes = {name: array.shape for name, array in stored.arrays.items()}
    return all(shapes.get(name) == array.shape for name, array in wanted.items())


def _inferred_fields(flat: Arrays, known: dict[str, nn.Module], source: str) -> dict[str, int]:
    """The model fields that can be inferred from the shapes of the arrays."""
    for model in known.values():
        try:
            return Stored(names.to_ours(flat, source, model)[0], None, source).sizes(model)
        except errors.BadInput:
            continue
    return {}


def _equal_fields(model: nn.Module, sizes: dict[str, int]) -> int:
    return sum(getattr(model, field, None) == value for field, value in sizes.items())
