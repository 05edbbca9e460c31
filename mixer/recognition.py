"""Which registered model a file of weights is of, by the names and the shapes of its arrays."""

import re

import numpy as np
from flax import linen as nn
from flax import traverse_util

from mixer import errors
from mixer.checkpoint import adapt, arrays, names, official, wrapping
from mixer.checkpoint.families import FAMILIES
from mixer.checkpoint.located import Located
from mixer.checkpoint.stored import Stored
from mixer.models import registry

_BLOCK = re.compile(r"(\w*(?:block|unit)_\d+)/", re.IGNORECASE)  # as all families call theirs


def recognised(source: str, located: Located) -> str:
    """The name of the registered model that has exactly such parameters.

    Args:
      source: what the file is called in messages.

    Raises:
      BadInput: there is none, or there are several; or no readable file.
    """
    flat, _ = wrapping.unwrapped(
        arrays.read(located.path), source, lambda flat: bool(names.families_of(flat))
    )
    families = names.families_of(flat)
    if not families:
        some = ", ".join(sorted(flat)[:5]) or "nothing"
        raise errors.BadInput(
            f"{source} holds no parameters that are known here: expected those of a "
            f"{', '.join(FAMILIES)} under their published names or timm's, found {some}"
        )
    known = {name: registry.create_model(name, 0) for name in registry.list_models()}
    known = {name: model for name, model in known.items() if names.family_of(model) in families}
    size = official.image_size(located.path)
    found = [name for name, model in known.items() if _fits(flat, model, size, source)]
    if len(found) == 1:
        return found[0]
    family = " or ".join(family.name for family in families)
    if found:
        raise errors.BadInput(
            f"{source} may be of several models, {', '.join(found)}: say which by "
            f"model={found[0]!r}"
        )
    told = _told(flat, known, source)
    near = max(known, key=lambda name: _alike(known[name], told), default=None)
    sizes = ", ".join(f"{field}={value}" for field, value in told.items())
    raise errors.BadInput(
        f"{source} holds the parameters of a {family}{sizes and ' of ' + sizes}, and no registered "
        f"model has such: "
        + (
            f"model={near!r} takes the sizes from the arrays"
            if told
            else f"registered are {', '.join(known) or 'none'}; mixer.register_model adds yours"
        )
    )


def _fits(
    flat: dict[str, np.ndarray], model: nn.Module, size: tuple[int, int] | None, source: str
) -> bool:
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


def _told(flat: dict[str, np.ndarray], known: dict[str, nn.Module], source: str) -> dict[str, int]:
    """The fields that the arrays tell, of a family of which they tell any."""
    for model in known.values():
        try:
            return Stored(names.to_ours(flat, source, model)[0], None, source).sizes(model)
        except errors.BadInput:
            continue
    return {}


def _alike(model: nn.Module, sizes: dict[str, int]) -> int:
    return sum(getattr(model, field, None) == value for field, value in sizes.items())
