"""The model card stored with parameters: all that is needed to use them, such as preprocessing."""

import dataclasses
from typing import Any

from mixer import errors


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The card of a training run's checkpoint, a Hub folder or a published name.

    Attributes:
      model: {"name": registered name, and every field's value}.
      image_size: (height, width) in training, in pixels; divided by the patch size, the grid.
      transform: the evaluation preprocessing, as a `mixer.data.transforms` string.
      classes: names of the classes, in the order of the head's outputs.
      dataset: the training dataset.
      imports: comma-separated modules that define the model or the transforms.
      multi_label: whether an image may have several classes.
      decoding: `config.input.decoding` of the training run.
      regression: whether the outputs are numbers, which `classes` names, instead of logits.
    """

    model: dict[str, Any]
    image_size: tuple[int, int]
    transform: str
    classes: tuple[str, ...]
    dataset: str
    imports: str = ""
    multi_label: bool = False
    decoding: str = "auto"
    regression: bool = False

    @property
    def channels(self) -> int:
        """C, of the model's images; 3 if the model has no field `in_chans`."""
        return self.model.get("in_chans", 3)

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` under its public name; checkpoints store it as "classes"."""
        return self.classes

    @property
    def outputs(self) -> str:
        """What the model's outputs are: "numbers", or the logits of a "sigmoid" or a "softmax"."""
        if self.regression:
            return "numbers"
        return "sigmoid" if self.multi_label else "softmax"

    @classmethod
    def from_json(cls, content: dict) -> "ModelCard":
        """Inverse of `dataclasses.asdict`, after JSON has turned tuples into lists.

        Fields that an older version of this program did not write get their defaults.

        Raises:
          BadInput: a newer version of this program wrote fields that this one does not know.
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
    """A JSON value with every list turned into a tuple, as configs have them."""
    if isinstance(value, dict):
        return {key: with_tuples(inner) for key, inner in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedCard(ModelCard):
    """The card that `mixer.load` returns: a model card plus its origin, which is not stored.

    Attributes:
      path: the path that was requested, without any password.
      step: the checkpoint's step in a workdir; None for any other source.
      sha256: of the weights file; None for a workdir, whose arrays have their own checksums.
      names: names to read, one for each of `class_names`: for ImageNet's synsets and numbers the
        words of WordNet, such as "golden retriever"; otherwise `class_names` themselves.
    """

    path: str
    step: int | None
    sha256: str | None
    names: tuple[str, ...]
