"""Rebuilds the config of an earlier training from its workdir, for `config.run="replay"`."""

from typing import Any

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import with_tuples
from mixer.data.sources.in_place import may_be_moved
from mixer.runs import keys, resuming, workdir
from mixer.runs.imports import check_trusted

# The runtime keys that only a training uses.
_OF_TRAINING = ("log_every", "checkpoint_every", "keep_checkpoints", "profile")


def training_config(config: ConfigDict, path: epath.Path) -> ConfigDict:
    """The config of the training in `path`, without its evaluators; defaults are those of `config`.

    The command may still set runtime keys, as the machine may be another one, and another path of
    the same images. It may not set other keys: see `keys.overrule`.

    Raises:
      BadInput: not the workdir of a training, or it needs modules that `config.imports` lacks.
    """
    found = workdir.read_json(path / workdir.CONFIG)
    if found is None:
        raise errors.BadInput(
            f"config.run={config.run} needs --config.init_from=WORKDIR of a training: {path} has "
            f"no {workdir.CONFIG}"
        )
    if found.get("run") != "train":
        raise errors.BadInput(
            f"config.init_from={path} is of config.run={found.get('run')}: expected the workdir of "
            f"a training; those of a sweep are in its folder trials"
        )
    if found.get("probe", {}).get("l2"):
        raise errors.BadInput(
            f"config.init_from={path} is of a linear probe, which has no steps to replay: expected "
            f"the workdir of a training of the whole model"
        )
    model = with_tuples(found.pop("model"))
    check_trusted(found.pop("imports", ""), config.imports, str(path))
    for name in ("evaluators", "best", "patience"):
        found.pop(name, None)
    given = keys.given(config)
    recorded = resuming.as_now(keys.flat(found), "train", keys.flat(keys.as_json(config)))
    values = {
        key: with_tuples(value)
        for key, value in recorded.items()
        if not (key in given and _may_differ(key, value, config))
    }
    overruled = values | keys.flat(model, "model.")
    keys.overrule(config, overruled, f"config.init_from={config.init_from}")
    own = config.copy_and_resolve_references()
    with own.unlocked():
        own.best, own.patience, own.evaluators, own.model = "", 0, {}, model
    try:
        own.update_from_flattened_dict(values)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise errors.BadInput(
            f"{path / workdir.CONFIG} was written by another version of this program: {error}"
        ) from None
    return own


def _may_differ(key: str, value: Any, config: ConfigDict) -> bool:
    if key == "dataset":
        return may_be_moved(value, config.dataset)
    group, _, name = key.partition(".")
    only_in_training = group == "runtime" and name in _OF_TRAINING
    return not resuming.affects_results(key) and not only_in_training
