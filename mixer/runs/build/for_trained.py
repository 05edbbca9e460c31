"""From the config to an earlier run's model, ready to use."""

import dataclasses
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import pretrained
from mixer.checkpoint.pretrained import Card
from mixer.data import sources
from mixer.runs.build.parts import (
    Evaluation,
    build_evaluation,
    build_model,
    data_dir,
    evaluation_transform,
    image_size_of,
    precision,
    upstream_of,
    used_evaluators,
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

    An .npz file brings none of them; the config's own count.

    Raises:
      BadInput: it is empty or holds nothing usable.
    """
    path = config.init_from
    if not path:
        raise errors.BadInput(
            f"config.run={config.run} needs --config.init_from=WORKDIR of a training run, or a file"
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
    source = sources.open_source(config.dataset, config.input.split, data_dir(config))
    return Card(
        model=config.model.to_dict() | {"num_classes": len(source.classes)},
        image_size=image_size_of(config),
        transform=evaluation_transform(config),
        classes=tuple(source.classes),
        dataset=config.dataset,
        imports=config.imports,
        multi_label=sources.max_labels(source) > 0,
    )


def evaluations(config: ConfigDict, model: Trained) -> list[Evaluation]:
    """The config's evaluators for parameters of an earlier run.

    Raises:
      BadInput: there are none, or a dataset has other classes than the model.
    """
    if not (names := used_evaluators(config)):
        raise errors.BadInput("config.evaluators has no split: there is nothing to evaluate on")
    return [
        build_evaluation(config, key, model.model, model.mesh, model.card, None) for key in names
    ]
