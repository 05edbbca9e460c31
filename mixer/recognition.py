"""Which registered model a file of weights is of, by the names and the shapes of its arrays."""

import re

import numpy as np
from flax import linen as nn
from flax import traverse_util

from mixer import errors
from mixer.checkpoint import adapt, arrays, names, wrapping
from mixer.checkpoint.families import FAMILIES
from mixer.checkpoint.layouts import Arrays
from mixer.checkpoint.stored import Stored
from mixer.models import registry

_BLOCK = re.compile(r"(\w*(?:block|unit)_\d+)/", re.IGNORECASE)  # as all families call theirs


def parameters(path: str, source: str) -> Arrays:
    """The arrays of a file of any family, under its own names without prefixes.

    Args:
      source: what the file is called in messages.

    Raises:
      BadInput: no readable file, or one of no family.
    """
    flat, _ = wrapping.unwrapped(
        arrays.read(path), source, lambda flat: bool(names.families_of(flat))
    )
    if not names.families_of(flat):
        some = ", ".join(sorted(flat)[:5]) or "nothing"
        raise errors.BadInput(
            f"{source} holds no parameters that are known here: expected those of a "
            f"{', '.join(FAMILIES)} under their published names or timm's, found {some}"
        )
    return flat


def recognised(flat: Arrays, size: tuple[int, int] | None, source: str) -> str:
    """The name of the registered model that has such parameters.

    Args:
      flat: `parameters`.
      size: (height, width) of images that they are for, where it is recorded.
      source: see there.

    Raises:
      BadInput: there is none, or there are several.
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
            f"{source} may be of several models, {', '.join(found)}: say which by "
            f"model={found[0]!r}"
        )
    holds = f"{source} holds the parameters of a {family}"
    if told := _told(flat, known, source):
        near = max(known, key=lambda name: _alike(known[name], told))
        if _alike(known[near], told) == len(told):
            return near  # with arrays too many or too few, which `load_pretrained` lists
        sizes = ", ".join(f"{field}={value}" for field, value in told.items())
        raise errors.BadInput(
            f"{holds} of {sizes}, and no registered model has these sizes: model={near!r} takes "
            f"them from the arrays"
        )
    raise errors.BadInput(
        f"{holds}, but of other shapes than {', '.join(known)}: mixer.register_model adds yours, "
        f"and mixer.load_pretrained takes any Module"
    )


def _fits(flat: Arrays, model: nn.Module, size: tuple[int, int] | None, source: str) -> bool:
    """Whether the file holds all parameters of the model, and no block more."""
    try:
        stored = Stored(names.to_ours(flat, source, model)[0], size, source)
        if any(getattr(model, field) != value for field, value in stored.sizes(model).items()):
            return False
        image_size = stored.some_size(model)
    except errors.BadInput:  # arrays that do not lie as this model's do
        return False
    # Before the shapes, which take a second of a deep model.
    blocks = {match[1] for name in stored.arrays if (match := _BLOCK.match(name))}
    if len(blocks) != np.sum(getattr(model, "num_blocks", len(blocks))):
        return False
    head = stored.arrays.get("head/bias")
    model = model.clone(num_classes=0 if head is None else head.size)
    wanted = traverse_util.flatten_dict(adapt.shapes(model, image_size), sep="/")
    shapes = {name: array.shape for name, array in stored.arrays.items()}
    return all(shapes.get(name) == array.shape for name, array in wanted.items())


def _told(flat: Arrays, known: dict[str, nn.Module], source: str) -> dict[str, int]:
    """The fields that the arrays tell, of a family of which they tell any."""
    for model in known.values():
        try:
            return Stored(names.to_ours(flat, source, model)[0], None, source).sizes(model)
        except errors.BadInput:
            continue
    return {}


def _alike(model: nn.Module, sizes: dict[str, int]) -> int:
    return sum(getattr(model, field, None) == value for field, value in sizes.items())
