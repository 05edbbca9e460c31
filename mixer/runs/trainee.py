"""Builds what is to be trained: the model for the data's classes, its start, and its card."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.reading import again_if_gone
from mixer.data import sources, transforms
from mixer.data.sources import Source
from mixer.data.sources.label_kinds import Labels
from mixer.runs.data import training_source
from mixer.runs.evaluations import evaluation_transform
from mixer.runs.imports import import_modules
from mixer.runs.model import build_model, image_size_of, model_fields
from mixer.runs.weights import RANDOM, at_size, upstream_of
from mixer.weights import fitting


@dataclasses.dataclass(frozen=True)
class Trainee:
    """A model and the images that it is trained on.

    Attributes:
      source, labels: the training images, and what kind of labels they have.
      whole: the size of their split, before `config.input.fraction`.
      initial: () -> the parameters of `config.init_from` and their origin; None, None if random.
    """

    model: nn.Module
    mesh: Mesh
    source: Source
    labels: Labels
    whole: int
    card: ModelCard
    initial: Callable[[], tuple[Any, dict | None]]


def build_trainee(
    config: ConfigDict,
    head: str,
    mesh_for: Callable[[Any], Mesh],
    resumed: ModelCard | None = None,
    *,
    regression: bool = False,
) -> Trainee:
    """Builds the model of the config for the classes of its data; loads nothing yet.

    Args:
      head: what to do with a stored head; see `fitting.HEADS`.
      mesh_for: the shapes of the parameters -> the mesh.
      resumed: see `training.build_training`.
      regression: whether the outputs are numbers, not classes.

    Raises:
      BadInput: the config asks for something that cannot be done.
    """
    import_modules(config.imports)
    image_size = image_size_of(config)
    fields = model_fields(config)
    given_classes = fields["num_classes"]
    if given_classes == 0:
        raise errors.BadInput(
            "config.model.num_classes=0 is a model without a head, which cannot be trained: leave "
            "it empty to take the dataset's classes"
        )
    fields |= resumed.model if resumed else {}
    name, _ = fields.pop("name"), fields.pop("num_classes")
    model = build_model(name, fields | {"num_classes": given_classes or 1}, image_size)
    if head not in fitting.HEADS:
        raise errors.unknown("config.init_head", head, fitting.HEADS)
    if head == "reset" and not config.init_from:
        raise errors.BadInput(
            f"config.init_from is empty, but a new head on {name} needs trained weights: set it to "
            f"a workdir, a file or a published name, or to random for untrained weights"
        )
    if head == "keep" and not config.init_from:
        raise errors.BadInput(
            "config.init_head=keep, but config.init_from is empty: there is no head to keep"
        )
    transforms.parse(config.input.transform, image_size, batch_lib.channels(model))
    mesh = mesh_for(fitting.shapes(model, image_size))
    source, whole = training_source(config)
    labels = sources.label_kinds.of(source)
    if given_classes and given_classes != len(source.classes):
        raise errors.BadInput(
            f"config.model.num_classes={given_classes}, but {config.dataset} has "
            f"{len(source.classes)} {'outputs' if labels.are_vectors else 'classes'}; leave it "
            f"empty to take the dataset's"
        )
    model, load = model.clone(num_classes=len(source.classes)), None
    if not resumed:
        model, load = at_size(config, model, image_size, head, source.classes)
    card = ModelCard(
        model={"name": name} | {f: getattr(model, f) for f in ("num_classes", *fields)},
        image_size=image_size,
        transform=evaluation_transform(config),
        classes=tuple(source.classes),
        dataset=config.dataset,
        imports=config.imports,
        multi_label=labels.kind in ("classes", "probabilities") and not regression,
        decoding=config.input.decoding,
        regression=regression,
    )
    return Trainee(model, mesh, source, labels, whole, card, lambda: _initial(config, load))


@again_if_gone
def _initial(config: ConfigDict, load: Callable) -> tuple[Any, dict | None]:
    if config.init_from in ("", RANDOM):
        return None, None
    upstream, meta = upstream_of(config)
    return load(step=meta and meta["step"]), upstream
