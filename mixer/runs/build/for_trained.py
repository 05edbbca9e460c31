"""From the config to an earlier run's model, ready to use."""

import dataclasses
from typing import Any

import jax
import tensorflow_datasets as tfds
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import pretrained, zoo
from mixer.checkpoint.pretrained import Card
from mixer.data import sources
from mixer.models import registry
from mixer.runs.build.parts import (
    Evaluation,
    build_evaluation,
    build_model,
    data_dir,
    evaluation_transform,
    image_size_of,
    precision,
    upstream_of,
)
from mixer.runs.imports import import_modules
from mixer.training import sharding


@dataclasses.dataclass(frozen=True)
class Trained:
    """Parameters of an earlier run with their model and card, for `evaluate` and `predict`."""

    model: nn.Module
    mesh: Mesh
    card: Card
    params: Any
    step: int | None
    upstream: dict
    precision: str


def trained(config: ConfigDict) -> Trained:
    """Loads `config.init_from` and what it brings: model, preprocessing and class names.

    A published name brings them as well. A file brings none of them; the config's own count.

    Raises:
      BadInput: it is empty or holds nothing usable.
    """
    path = config.init_from
    if not path:
        raise errors.BadInput(
            f"config.run={config.run} needs --config.init_from=WORKDIR of a training run, or a "
            f"file or published name"
        )
    import_modules(config.imports)
    upstream, meta = upstream_of(path)
    if meta is None:
        at, card = None, _card_of_file(config)
    else:
        at, card = meta["step"], Card.from_json(meta["card"])
        import_modules(card.imports)
    fields = dict(card.model)
    model = build_model(fields.pop("name"), fields, card.image_size)
    mesh = sharding.make_mesh()
    params = pretrained.load_pretrained(
        path, model, image_size=card.image_size, step=at, head="keep"
    )
    params = jax.device_put(params, sharding.replicated(mesh))
    return Trained(model, mesh, card, params, at, upstream, precision(model))


def _card_of_file(config: ConfigDict) -> Card:
    if entry := zoo.find(config.init_from):
        return _card_of_published(entry)
    source = sources.open_source(config.dataset, config.input.split, data_dir(config))
    return Card(
        model=config.model.to_dict() | {"num_classes": len(source.classes)},
        image_size=image_size_of(config),
        transform=evaluation_transform(config),
        classes=tuple(source.classes),
        dataset=config.dataset,
        imports=config.imports,
    )


def _card_of_published(entry: zoo.Published) -> Card:
    if entry.dataset == "imagenet2012":
        classes = tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()
    else:
        classes = map(str, range(entry.classes))  # no names come with it
    named = {"num_classes": entry.classes, "patch_size": entry.patch_size, "gelu": entry.gelu}
    return Card(
        model={"name": entry.model} | registry.model_fields(entry.model) | named,
        image_size=entry.image_size,
        transform=entry.transform,
        classes=tuple(classes),
        dataset=entry.dataset,
    )


def evaluations(config: ConfigDict, model: Trained) -> list[Evaluation]:
    """The config's evaluators for parameters of an earlier run.

    Raises:
      BadInput: there are none, or a dataset has other classes than the model.
    """
    if not len(config.evaluators):
        raise errors.BadInput("config.evaluators is empty: there is nothing to evaluate on")
    return [
        build_evaluation(config, key, model.model, model.mesh, model.card, None)
        for key in sorted(config.evaluators)
    ]
