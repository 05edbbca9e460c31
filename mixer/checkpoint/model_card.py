"""What travels with parameters: all that is needed to use them."""

import dataclasses
from typing import Any

from mixer import errors


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Of a training's checkpoint, a Hub folder or a published name.

    Attributes:
      model: {"name": registered name, and every field's value}.
      image_size: (height, width) in pixels of the training; with the patch size, the grid.
      transform: the evaluation preprocessing, in the language of `mixer.data.transforms`.
      classes: the names, in the head's order.
      dataset: what they were trained on.
      imports: modules that define the model or the transforms, comma-separated.
      multi_label: whether an image may have several of the classes.
      decoding: `config.input.decoding` of the training.
    """

    model: dict[str, Any]
    image_size: tuple[int, int]
    transform: str
    classes: tuple[str, ...]
    dataset: str
    imports: str = ""
    multi_label: bool = False
    decoding: str = "auto"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The public name of `classes`, which checkpoints keep under that one."""
        return self.classes

    @classmethod
    def from_json(cls, content: dict) -> "ModelCard":
        """Inverse of `dataclasses.asdict` after JSON has made lists of tuples.

        What an older version of this program did not write gets its default.

        Raises:
          BadInput: a newer version wrote more.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if strange := sorted(content.keys() - known):
            raise errors.BadInput(
                f"this checkpoint was written by a newer version of this program, whose cards also "
                f"have {', '.join(strange)}: use that version"
            )
        lists = {name: tuple(content[name]) for name in ("image_size", "classes")}
        return cls(**(content | lists | {"model": with_tuples(content["model"])}))


def with_tuples(value: Any) -> Any:
    """A value of JSON, which knows lists only, with tuples in their place, as configs have them."""
    if isinstance(value, dict):
        return {key: with_tuples(inner) for key, inner in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedCard(ModelCard):
    """What `mixer.load` gives: a card and where it is from, which no checkpoint keeps.

    Attributes:
      path: what was asked for, without a password.
      step: of a workdir's checkpoint; None of anything else.
      sha256: of the file of weights; None of a workdir, whose arrays have checksums of their own.
    """

    path: str
    step: int | None
    sha256: str | None
