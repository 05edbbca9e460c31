"""From the config to the evaluations of published weights."""

from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import zoo
from mixer.checkpoint.located import locate
from mixer.runs.build.data import open_data
from mixer.runs.build.parts import keep_evaluators


def verification(config: ConfigDict) -> dict[str, ConfigDict]:
    """By published name, the config of its evaluation on the test sets that it has figures of.

    The names are those in `config.init_from`, or all with figures. What is not there yet is
    fetched. All sets but ImageNet's own are optional.

    Raises:
      BadInput: a name without figures, a recipe without the evaluators, or ImageNet is missing.
      Failure: no connection to fetch it.
    """
    known = [entry.name for entry in zoo.list_pretrained() if entry.figures]
    names = [name.strip() for name in config.init_from.split(",")] if config.init_from else known
    found = {}
    for name in names:
        if name not in known:
            raise errors.unknown("published name with figures", name, known)
        figures = zoo.PUBLISHED[name].figures
        if absent := [key for key in figures if key not in config.evaluators]:
            raise errors.BadInput(
                f"config.run=verify_zoo needs config.evaluators.{absent[0]}: take "
                f"--config=configs/imagenet.py"
            )
        found[name] = own = config.copy_and_resolve_references()
        own.init_from = name
        keep_evaluators(own, figures)
        for key, entry in own.evaluators.items():
            entry.update(split=entry.split or "test", optional=key != "val")
    val = config.evaluators.val
    open_data(config, val.dataset or config.dataset, val.split)  # before hundreds of MB are fetched
    for name in found:
        locate(name)
    return found
