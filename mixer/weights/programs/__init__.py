"""Exports a trained model as a program that other runtimes start, without Flax or this package.

A program has the parameters inside. It takes images as uint8 RGB, scales them itself, computes in
float32 and returns logits. A JSON file beside it says what its user has to know: the size and
preprocessing of the images, and the classes.
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import linen as nn

from mixer import batch, errors, storage
from mixer.checkpoint.model_card import ModelCard
from mixer.weights import class_names
from mixer.weights.formats import hub_page
from mixer.weights.programs import onnx, saved_model, stablehlo, tflite


class Format(Protocol):
    """A module that writes and runs programs of one kind.

    Attributes:
      USE: Python code that starts the program PATH with `images`.
      BATCH: how many images it takes at a time; "batch" for any number.
    """

    USE: str
    BATCH: str | int

    def check(self) -> None:
        """Raises BadInput if the libraries that it needs are missing."""

    def write(
        self, path: Path, function: Callable, params: Any, shape: tuple[int, int, int]
    ) -> None:
        """Writes `function(params, images)` for uint8 images [N, *shape], whole or not at all."""

    def run(self, path: Path, images: np.ndarray) -> np.ndarray:
        """The logits of uint8 images [N, H, W, C] by the program's own runtime."""


# What a target ends in -> its format. TensorFlow itself calls such a folder saved_model.
FORMATS: dict[str, Format] = {
    ".stablehlo": stablehlo,
    ".onnx": onnx,
    ".tflite": tflite,
    "saved_model/": saved_model,
}
# The most bytes of parameters in a file, which is a FlatBuffer or a protocol buffer.
_LIMIT = 2**31 - 2**20
# The largest difference to our logits, as a share of the largest logit. float32 gives 1e-5; the
# matrix units of TPUs and GPUs, which multiply with fewer bits, 5e-3; a wrong program 1.
_TOLERANCE = 0.02
# How JAX says that a model's code needs a number where a program has a symbol.
_SYMBOLS = ("_DimExpr", "Symbolic dimension")
_NO_NUMBER = (
    ". A program takes any number of images: write x.shape[0], not len(x), and do not compare it"
)


def format_of(target: str) -> Format | None:
    """The format of a target to write; None if that is not a program."""
    return next((form for end, form in FORMATS.items() if target.lower().endswith(end)), None)


def check(target: str, params: dict[str, Any]) -> None:
    """Checks that such a program can be written here.

    Raises:
      BadInput: a library is missing, or the parameters are too large for that format.
    """
    _known(target).check()
    size = sum(x.size for x in jax.tree.leaves(params)) * 4
    if size > _LIMIT and not target.endswith("/"):
        raise errors.BadInput(
            f"{target!r}: such a file can have {_LIMIT:,} bytes, and the parameters have {size:,}: "
            f"convert to .safetensors, or to FOLDER/saved_model/ for TensorFlow"
        )


def save(target: str, params: dict[str, Any], model: nn.Module, card: ModelCard) -> float:
    """Writes a program and its description, and runs it to see that its logits are the model's.

    Args:
      target: what to write, as in `FORMATS`; its description is TARGET.json, of a folder
        TARGET/model.json.
      params: nested dict of float32 arrays that `model` can use.
      model: the Module that they are for.
      card: image size, preprocessing and classes.

    Returns:
      The largest difference between the program's logits of two random images and the model's.

    Raises:
      BadInput: see `check`; or the target cannot be written.
      Failure: the library cannot write or run this model, or the program gives other logits.
    """
    form, path = _known(target), Path(target).expanduser()
    if hasattr(model, "dtype"):
        model = model.clone(dtype="float32")

    def function(params, images):
        return model.apply({"params": params}, batch.to_model_input(images))

    shape = (*card.image_size, card.channels)
    about = json.dumps(describe(target, model, card), indent=2) + "\n"
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    ours = np.asarray(jax.jit(function)(params, images))
    with contextlib.ExitStack() as undo:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            form.write(path, function, params, shape)
            undo.callback(_remove, path)
            theirs = form.run(path, images)
        except OSError as error:
            raise errors.BadInput(f"{target!r} cannot be written: {error}") from None
        except Exception as error:  # the libraries have many types
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            hint = _NO_NUMBER if any(word in reason for word in _SYMBOLS) else ""
            raise errors.Failure(f"{target} cannot be made of this model: {reason}{hint}") from None
        difference = float(np.abs(theirs - ours).max())
        if not difference <= _TOLERANCE * np.abs(ours).max():
            raise errors.Failure(
                f"{target} is not kept: its logits of two random images differ by {difference:.1e} "
                f"from the model's, the largest of which is {np.abs(ours).max():.1e}"
            )
        beside = path / "model.json" if path.is_dir() else path.with_name(f"{path.name}.json")
        with storage.write_whole(beside) as file:
            file.write(about.encode())
        undo.pop_all()
    return difference


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def describe(target: str, model: nn.Module, card: ModelCard) -> dict[str, Any]:
    """The content of the description, for a program's user."""
    form, (height, width) = _known(target), card.image_size
    colours = {1: "grey", 3: "RGB"}.get(card.channels, f"{card.channels} channels")
    return {
        "model": card.model["name"],
        "use": form.USE.replace("PATH", repr(Path(target).name)),
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": [form.BATCH, height, width, card.channels],
            "meaning": f"{colours}, 0 to 255, not normalized: the program does that",
        },
        "preprocessing": {"transform": card.transform, **hub_page.crop(card)},
        "output": {
            "name": "logits",
            "dtype": "float32",
            "shape": [form.BATCH, model.num_classes or "features"],
            "meaning": _meaning(card),
        },
        "classes": card.classes,
        "names": class_names.readable(card.classes, card.dataset),
    }


def _meaning(card: ModelCard) -> str:
    if card.regression:
        return "the numbers that classes names"
    several = "any number of classes an image: sigmoid" if card.multi_label else "softmax"
    return f"logits of the classes; {several} gives probabilities"


def _known(target: str) -> Format:
    if (form := format_of(target)) is None:
        raise errors.BadInput(f"{target!r}: expected a name that ends in {', '.join(FORMATS)}")
    return form
