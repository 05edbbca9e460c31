"""`mixer.preprocess`: turns image files or arrays into the input of a trained model.

It connects two rooms: a card (checkpoint) names the transform, which the data room applies.
mixer/batch.py then scales the pixels to [-1, 1].
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from mixer import batch as batch_lib
from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data import transforms
from mixer.data.decode import Decoding, opened
from mixer.data.sources import image_files

# A file, or its bytes, or an image itself.
Image = str | os.PathLike[str] | bytes | np.ndarray | PIL.Image.Image


def preprocess(images: Image | Sequence[Image], card: ModelCard) -> np.ndarray:
    """Preprocesses images as in the evaluation of a model, by `card.transform`.

    The pixels are those of `config.run=predict`.

    Args:
      images: a file, a folder (all files below it, ordered by path), a glob, a list of these (@FILE
        or FILE.txt, one per line), or several of them separated by commas; or an array uint8
        [N, H, W, 3], [H, W, 3], or [H, W] for one grey image (C instead of 3 if the model has
        neither 1 nor 3 channels), with values from 0 to 255; or a Pillow image; or a sequence of
        files, bytes of files, Pillow images and arrays of single images, of any sizes, one for each
        row of the result. Files are decoded according to `card.decoding`.
      card: the card from `mixer.load`.

    Returns:
      NumPy array float32 [N, height, width, C] in [-1, 1], with the (height, width) of
      `card.image_size`, and C of `card.channels`: of 1, colours are made grey.

    Raises:
      BadInput: no images, a file that does not exist or cannot be read, or an array of another kind
        such as floats or channels first; the message names it.
      TypeError: `card` is no card.
    """
    if not isinstance(card, ModelCard):
        raise TypeError(f"card is a {type(card).__name__}: expected the third value of mixer.load")
    return prepared(named(images), card)


def prepared(images: Iterable[tuple[str, Image]], card: ModelCard) -> np.ndarray:
    """`preprocess` of images with their names for messages, as `named` yields them."""
    transform = transforms.parse(card.transform, card.image_size, card.channels)
    decoding = Decoding(as_tensorflow=card.decoding == "tensorflow")
    made = []
    for name, image in images:
        try:
            data = Path(image).read_bytes() if isinstance(image, str | os.PathLike) else image
            made.append(pixels(data, transform, decoding))
        except OSError as error:
            raise errors.BadInput(f"{name} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError) as error:
            raise errors.BadInput(f"{name}: {error}") from None
    if not made:
        raise errors.BadInput("images are empty: expected one or more")
    return batch_lib.to_model_input(np.stack(made))


def pixels(
    image: bytes | np.ndarray | PIL.Image.Image, transform: transforms.Chain, decoding: Decoding
) -> np.ndarray:
    """Applies a transform that is not random to one image.

    Args:
      image: the bytes of a file, or uint8 [H, W, 3], or [H, W] for a grey image; or [H, W, C].

    Returns:
      uint8 [H', W', C].

    Raises:
      ValueError, TypeError: see `mixer.data.decode.opened`.
    """
    return transform(opened(image, decoding, transform.channels), np.random.default_rng(0))


def named(images) -> Iterator[tuple[str, Image]]:
    """Yields (name for messages, image) for each image that `preprocess` is given."""
    if isinstance(images, str | os.PathLike):
        left_out: Counter[str] = Counter()
        files = image_files.expand(os.fspath(images), left_out, asked_by="images")
        if left_out:
            passed = image_files.counted(left_out)
            print(f"{image_files.number(files)}; left out: {passed}", flush=True)
        yield from zip(files, files, strict=True)
        return
    if hasattr(images, "ndim"):  # NumPy's, JAX's, PyTorch's
        images = np.asarray(images)
        if images.ndim != 4:
            yield "images", images
            return
    if isinstance(images, bytes) or not hasattr(images, "__iter__"):
        yield "images", images
        return
    for i, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            yield os.fspath(image), image
        else:
            yield f"images[{i}]", np.asarray(image) if hasattr(image, "ndim") else image
