"""`mixer.Classifier`: says what images show, by the names of their classes."""

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mixer import errors
from mixer.loading import load
from mixer.preprocessing import Image, named, prepared
from mixer.weights import zoo

_BATCH = 64


class Guess(NamedTuple):
    """A class that an image may show.

    Attributes:
      name: to be read, from `card.names`.
      probability: between 0 and 1.
      label: its number, the output of the head.
    """

    name: str
    probability: float
    label: int


class Classifier:
    """A trained model that is called with images: `mixer.Classifier("Mixer-B/16")("*.jpg")`.

    Attributes:
      model, params, card: what `mixer.load` returned.
    """

    def __init__(self, path: str | PathLike, **how):
        """Loads the model.

        Args:
          path: whatever `mixer.load` takes. A model's name alone ("Mixer-B/16") is taken for the
            first of its published files in `mixer.list_pretrained`, and a line says so.
          **how: see `mixer.load`.

        Raises:
          BadInput, Failure: see `mixer.load`; also a model without a head, or of numbers.
        """
        self.model, self.params, self.card = load(_published(os.fspath(path)), **how)
        if not self.card.names:
            raise errors.BadInput(
                f"{self.card.path} has no head, so it knows no classes: mixer.load gives its "
                f"features"
            )
        if self.card.regression:
            raise errors.BadInput(
                f"{self.card.path} predicts {errors.shown(self.card.names)}, not classes: call "
                f"the model that mixer.load returns"
            )
        likelihood = jax.nn.sigmoid if self.card.multi_label else jax.nn.softmax

        @jax.jit
        def apply(params: Any, images: jax.Array) -> jax.Array:
            logits: Any = self.model.apply({"params": params}, images)
            return likelihood(logits)

        self._apply = apply

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.card.image_size))
        return (
            f"Classifier({self.card.path!r}): a {self.card.model['name']} of {size} pixels, "
            f"{len(self.card.names):,} classes: {errors.shown(self.card.names)}"
        )

    def __call__(self, images: Image | Sequence[Image], top: int = 5) -> list[list[Guess]]:
        """The most likely classes of each image, the best first.

        Args:
          images: whatever `mixer.preprocess` takes: files, folders, globs, lists, uint8 arrays,
            Pillow images.
          top: how many classes of each image; all of them if the model has fewer.

        Returns:
          A list with one entry for each image, in the order of `mixer.preprocess`. Probabilities
          are a softmax; for a model of multi-label images, a sigmoid for each class.

        Raises:
          BadInput: no images, or one that cannot be used; `top` is below 1.
        """
        if top < 1:
            raise errors.BadInput(f"top={top}: expected 1 or more")
        found = []
        everything = list(named(images))
        for first in range(0, len(everything), _BATCH):
            rows = prepared(everything[first : first + _BATCH], self.card)
            for probabilities in np.asarray(self._apply(self.params, rows)):
                best = np.argsort(-probabilities)[:top]
                found.append(
                    [Guess(self.card.names[k], float(probabilities[k]), int(k)) for k in best]
                )
        if not found:
            raise errors.BadInput("images are empty: expected one or more")
        return found


def _published(path: str) -> str:
    """`path`, or the first published file of the model that it names."""
    files = [name for name in zoo.PUBLISHED if name.partition(":")[0] == path]
    if not files or Path(path).expanduser().exists():
        return path
    others = f"; others: {', '.join(files[1:])}" if files[1:] else ""
    print(f"{path}: taken for {files[0]}{others}", flush=True)
    return files[0]
