"""Loads the trained model in `config.init_from`, ready to use."""

import dataclasses
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.reading import again_if_gone
from mixer.runs import keys
from mixer.runs.imports import check_trusted, import_modules
from mixer.runs.model import build_model, mesh_of, precision, rules_of
from mixer.runs.weights import RANDOM, at_size, card_of_config, upstream_of
from mixer.training import placement, step
from mixer.weights import pretrained


@dataclasses.dataclass(frozen=True)
class Trained:
    """Trained parameters with their model and card; `step` and `upstream` are their origin."""

    model: nn.Module
    mesh: Mesh
    card: ModelCard
    params: Any
    step: int | None
    upstream: dict | None
    precision: str


@again_if_gone
def load_trained(config: ConfigDict) -> Trained:
    """Loads the parameters in `config.init_from`, with their model, preprocessing and class names.

    A workdir, a published name and a folder of the Hub record these. For a plain file, and for
    "random", which draws the parameters, they are the config's, including the image size.

    Raises:
      BadInput: `init_from` is empty or contains nothing usable.
    """
    path = config.init_from
    if not path:
        raise errors.BadInput(
            f"config.run={config.run} needs --config.init_from=WORKDIR of a training run, or a "
            f"file, a folder of the Hub or a published name"
        )
    import_modules(config.imports)
    upstream, meta = (None, None) if path == RANDOM else upstream_of(config)
    if meta is None:
        at, card = None, card_of_config(config)
    else:
        at, card = meta["step"], ModelCard.from_json(meta["card"])
        check_trusted(card.imports, config.imports, path)
    _overrule(config, card)
    fields = dict(card.model)
    model = build_model(fields.pop("name"), fields, card.image_size)
    mesh = mesh_of(config)
    if path == RANDOM:
        params = jax.jit(lambda: step.init_params(model, card.image_size, config.seed))()
    elif meta is None:
        model, load = at_size(config, model, card.image_size, head="keep")
        params = load()
    else:
        params = pretrained.load_pretrained(path, model, step=at, head="keep", ema=config.init_ema)
    rules = rules_of(config, mesh.shape["fsdp"])
    params = jax.device_put(params, placement.shardings(params, params, mesh, rules))
    return Trained(model, mesh, card, params, at, upstream, precision(model))


def _overrule(config: ConfigDict, card: ModelCard) -> None:
    """Records that the card overrules the config's model and preprocessing."""
    values = {f"model.{field}": value for field, value in card.model.items()}
    values |= {"image_size": card.image_size}
    values |= {"dataset": card.dataset} if card.dataset else {}
    values |= {f"evaluators.{name}.transform": card.transform for name in config.evaluators}
    keys.overrule(config, values, f"config.init_from={config.init_from}")
