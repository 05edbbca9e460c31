"""Parameters from elsewhere for the config's model at the config's image size."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import pretrained, resize
from mixer.checkpoint.pretrained import Card
from mixer.runs.build.upstream import check_no_secret, init_step

# In the place of a path: an untrained model, which is what training takes by default.
RANDOM = "random"


def pretrained_size_of(config: ConfigDict) -> tuple[int, int] | None:
    """`config.pretrained_size`, checked; None if it is empty."""
    size = tuple(config.pretrained_size)
    if size and (len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size)):
        raise errors.BadInput(
            f"config.pretrained_size={size}: expected a pair (height, width) of pixels"
        )
    return size or None


def at_size(
    config: ConfigDict,
    model: nn.Module,
    image_size: tuple[int, int],
    head: str,
    classes: Sequence[str] | None = None,
) -> tuple[nn.Module, Callable[..., dict[str, Any]]]:
    """The model at the size, and `load_pretrained` of `config.init_from` for it.

    Without `init_from` the model is as it was, and nothing may be loaded.

    Args:
      head: what becomes of a stored head; see `load_pretrained`.
      classes: the names of the model's classes, for which a stored head of others is none.

    Raises:
      BadInput: nothing usable there, or no way to that size.
    """
    path = config.init_from
    if path in ("", RANDOM):
        return model, pretrained.load_pretrained
    check_no_secret(path)
    method, given = config.resize_method, pretrained_size_of(config)
    at = init_step(config)
    load = functools.partial(
        pretrained.load_pretrained,
        path,
        model,
        image_size=image_size,
        pretrained_size=given,
        method=method,
        head=head,
        ema=config.init_ema,
        classes=classes,
    )
    if pretrained.is_file(path):
        item = "ema" if config.init_ema else "params"
        made_for = pretrained.read(path, model, step=at, item=item).size(model, image_size, given)
    else:
        card = Card.from_json(pretrained.read_meta(path, at)["card"])
        made_for = card.image_size
        trained_with, gelu = (which.get("gelu") for which in (card.model, vars(model)))
        if None not in (trained_with, gelu) and trained_with != gelu:
            raise errors.BadInput(
                f"{path} was trained with gelu={trained_with!r}: set --config.model.gelu="
                f"{trained_with}"
            )
    return resize.at_resolution(model, image_size, made_for, method), load
