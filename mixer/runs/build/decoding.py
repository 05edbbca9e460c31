"""From the config to what is made of image files."""

from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.card import Card
from mixer.data import turbojpeg
from mixer.data.decode import Decoding
from mixer.data.sources import Source

_WAYS = ("auto", "tensorflow", "upright")


def decoding_of(
    config: ConfigDict, source: Source | None, card: Card | None = None, *, fast: bool = False
) -> Decoding:
    """`config.input.decoding` with the limits beside it.

    Args:
      source: where the files come from; None: they are named one by one.
      card: of an earlier run, which counts where the config leaves it to the data.

    Raises:
      BadInput: another word, a limit that leaves no image, or no library to decode fast.
    """
    way, pixels, ratio = (
        config.input[key] for key in ("decoding", "max_pixels", "max_aspect_ratio")
    )
    if way not in _WAYS:
        raise errors.unknown("config.input.decoding", way, _WAYS)
    for key, value in (("max_pixels", pixels), ("max_aspect_ratio", ratio)):
        if not value >= 1:
            raise errors.BadInput(f"config.input.{key}={value}: expected 1 or more")
    if fast and not turbojpeg.available():
        raise errors.BadInput(
            "config.input.fast_decode=True needs the C library libjpeg-turbo 3 or later, which is "
            "not found (conda install libjpeg-turbo, brew install jpeg-turbo, or its own packages)"
        )
    if way == "auto" and card is not None:
        way = card.decoding
    published = getattr(source, "published", False)
    as_tensorflow = way == "tensorflow" or (way == "auto" and published)
    return Decoding(as_tensorflow, fast, pixels, ratio)


def skip_bad(config: ConfigDict) -> bool:
    """Whether unreadable examples are passed over."""
    if config.input.on_bad not in ("error", "skip"):
        raise errors.unknown("config.input.on_bad", config.input.on_bad, ("error", "skip"))
    return config.input.on_bad == "skip"
