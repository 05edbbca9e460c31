"""Reads weights from a file or workdir, under our names, with the image size they are for."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mixer import errors
from mixer.checkpoint import reading
from mixer.weights import download, formats, resize
from mixer.weights.formats import names
from mixer.weights.located import Located, locate


@dataclasses.dataclass(frozen=True)
class Stored:
    """The content of a workdir's checkpoint or of a file.

    Attributes:
      arrays: float32 by name, such as "stem/kernel".
      image_size: the recorded (height, width) of training; None for most files.
      source: where it is from, for messages.
      classes: the head's class names, in its order; empty if unknown.
      remarks: sentences for the user on what was left out or not understood.
    """

    arrays: dict[str, np.ndarray]
    image_size: tuple[int, int] | None
    source: str
    classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def patches(self, model) -> int | None:
        """How many patches the parameters are for; None if they do not depend on the grid.

        Raises:
          BadInput: they are for another patch size, or the array that shows the number is missing.
        """
        family = names.family_of(model)
        if family is None or family.patches is None:
            return None
        count = family.patches(self.arrays)
        if count is None:
            if self.image_size is None:
                raise errors.BadInput(
                    f"{self.source} does not show how many patches it is for: token mixing or the "
                    f"position embeddings are missing"
                )
            return None
        stem = self.arrays.get("stem/kernel")
        if stem is not None and stem.ndim == 4 and len(stem) != model.patch_size:
            raise errors.BadInput(
                f"{self.source} is for patch_size {len(stem)}, the model has {model.patch_size}: "
                f"load it for a model of its patch_size, then "
                f"mixer.with_patch_size(params, {model.patch_size}) makes another stem"
            )
        return count

    def sizes(self, model) -> dict[str, int]:
        """The model fields, for this model's family, that the arrays' shapes determine."""
        family = names.family_of(model)
        return family.sizes(self.arrays) if family else {}

    def some_size(self, model, image_size: int | tuple[int, int] | None = None) -> tuple[int, int]:
        """(height, width) with the right number of patches, perhaps in another grid.

        It is enough to find the parameters' shapes.

        Args:
          image_size: the size at which they will be used; counts only if they fit any size.
        """
        count = self.patches(model)
        if count is not None:
            return model.patch_size, model.patch_size * count
        return self.image_size or resize.pair(image_size or 224)

    def size(
        self,
        model,
        image_size: int | tuple[int, int],
        pretrained_size: int | tuple[int, int] | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> tuple[int, int]:
        """(height, width) in pixels of the images that the parameters were made for.

        That is the recorded size; else `pretrained_size`; else `image_size` if it has as many
        patches or patches do not matter; else a square.

        Args:
          report: called with a line if a grid is assumed because its number of patches fits.

        Raises:
          BadInput: `pretrained_size` contradicts what is stored, or is missing but needed.
        """
        wanted, given = resize.pair(image_size), pretrained_size and resize.pair(pretrained_size)
        if self.image_size is not None:
            if given and given != self.image_size:
                raise errors.BadInput(
                    f"pretrained_size={given}, but {self.source} was trained at "
                    f"{self.image_size}: leave it out"
                )
            return self.image_size
        count = self.patches(model)
        if count is None:
            return wanted
        patch = model.patch_size
        if given:
            rows, columns = resize.grid(given, patch)
            if rows * columns != count:
                raise errors.BadInput(
                    f"pretrained_size={given} is a grid of {rows} x {columns} patches of {patch}, "
                    f"but {self.source} has weights for {count} patches"
                )
            return given
        rows, columns = resize.grid(wanted, patch)
        if rows * columns == count:
            if rows != columns:
                report(
                    f"{self.source} does not record the grid of its {count} patches: assuming "
                    f"{rows} x {columns}, of {wanted[0]} x {wanted[1]} pixels; set pretrained_size "
                    f"if it is another"
                )
            return wanted
        side = math.isqrt(count)
        if side * side != count:
            raise errors.BadInput(
                f"{self.source} has weights for {count} patches of {patch}, not a square grid: set "
                f"pretrained_size=(height, width)"
            )
        return side * patch, side * patch


def is_file(path: str) -> bool:
    """Whether `path` is a weights file, the address of one or a published name; else a workdir."""
    return locate(path).is_file


def read_stored(path: str, model, *, step: int | str | None = None, item: str = "params") -> Stored:
    """All parameters at `path`, under our names, not yet checked against a model.

    Args:
      model: the Module that a file's parameters are for: needed to read them; not for a workdir.
      step, item: which parameters of a workdir.

    Raises:
      BadInput: there is nothing usable at `path`, or `step` or `item` was given for a file.
    """
    located, path = locate(path), download.without_login(path)
    if not located.is_file:
        arrays, card, chosen = reading.read_arrays(path, step, item)
        source = f"{path} (step {chosen})"
        return Stored(arrays, card.image_size, source, classes=card.classes)
    if step is not None or item != "params":
        raise errors.BadInput(
            f"{path!r} has one set of parameters: only a workdir has steps and averaged parameters"
        )
    return _from_file(path, located, model)


def _from_file(path: str, located: Located, model) -> Stored:
    content, remarks = names.unwrapped(
        formats.read(located.path), path, lambda flat: names.of_family(flat, path, model)
    )
    found, names_of = names.to_ours(content, path, model)
    publisher = located.entry or located.folder
    stored = Stored(
        found,
        (publisher and publisher.image_size) or formats.image_size(located.path),
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
        f"{path} says that it is for {height} x {width} pixels, but has weights for {count} "
        f"patches of {model.patch_size}: using the latter"
    )
    return dataclasses.replace(stored, image_size=None, remarks=(*stored.remarks, remark))
