"""Takes the architecture of a training's model from the workdir in `config.init_from`."""

import contextlib
import json
from typing import Any

from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import reading
from mixer.checkpoint.model_card import ModelCard, with_tuples
from mixer.models import registry
from mixer.models.fields import OF_TRAINING
from mixer.runs import keys, workdir
from mixer.runs.imports import check_trusted, import_modules
from mixer.runs.weights import RANDOM, check_no_secret, init_step
from mixer.weights import located

# Model fields that the weights do not decide: they stay as the config has them.
_OWN = ("num_classes", "in_chans", *OF_TRAINING)


def with_upstream_model(config: ConfigDict, output: str = "") -> ConfigDict:
    """The config with the model of the workdir in `init_from`; prints what that changes.

    A file of weights changes nothing, as it does not record its model's fields.

    Args:
      output: the workdir of the run itself. A resumed run keeps its model, and the workdir in
        `init_from` need not exist any more.

    Raises:
      BadInput: nothing usable at `init_from`, or a model of another family than the config's.
    """
    path = config.init_from
    if path in ("", RANDOM):
        return config
    check_no_secret(path)
    if not located.is_workdir(path):
        return config
    import_modules(config.imports)
    begun = _begun(output, path) if output else None
    stored = begun or _stored(config, path)
    given = with_tuples(keys.as_json(config)["model"])  # not recorded as reads
    _check_family(path, stored, given["name"])
    taken = {field: value for field, value in stored.items() if field not in _OWN}
    keys.overrule(config, {f"model.{k}": v for k, v in taken.items()}, f"config.init_from={path}")
    keys.check_overruled(config)
    changed = {field: value for field, value in taken.items() if given.get(field) != value}
    if changed and not begun:
        listed = ", ".join(f"{field}={value!r}" for field, value in changed.items())
        print(f"using the model of {path}: {listed}", flush=True)
    own = config.copy_and_resolve_references()
    for field, value in changed.items():
        own.model[field] = value
    return own


def _begun(output: str, path: str) -> dict[str, Any] | None:
    """The model of the run in the workdir `output`; None if no run there started from `path`."""
    # An unreadable file is reported later, when the run checks its workdir.
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((workdir.open_workdir(output) / workdir.CONFIG).read_text())
        if isinstance(found, dict) and found.get("init_from") == path:
            return with_tuples(found.get("model"))
    return None


def _stored(config: ConfigDict, path: str) -> dict[str, Any]:
    """The model on the card of the checkpoint in `init_from`."""
    card = ModelCard.from_json(reading.read_meta(path, init_step(config))["card"])
    if card.model["name"] not in registry.list_models():
        check_trusted(card.imports, config.imports, path)
    return card.model


def _check_family(path: str, stored: dict[str, Any], name: str) -> None:
    """Refuses a model of another family: the recipe's other keys depend on the family.

    Raises:
      BadInput: the families differ, or the model is unknown.
    """
    ours, theirs = (
        registry.create_model(name, 0),
        registry.create_model(**stored | {"num_classes": 0}),
    )
    if type(ours) is not type(theirs):
        raise errors.BadInput(
            f"config.init_from={path} contains a {stored['name']}, of another family than the "
            f"recipe's {name}: give the recipe its name, --config=RECIPE:{stored['name']}"
        )
