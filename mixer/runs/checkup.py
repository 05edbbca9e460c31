"""From the config to what has to be there before a run of it starts."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import adapt
from mixer.data.decode import Decoding
from mixer.data.sources import Source
from mixer.runs.data import decoding_of, open_data, training_reader, training_source
from mixer.runs.evaluations import splits_of
from mixer.runs.imports import import_modules
from mixer.runs.model import build_model, image_size_of, rules_of, training_mesh
from mixer.training import placement, sharding

# In float32: parameters, Adam's two moments; with config.ema_decay averages too.
_BYTES_A_PARAMETER, _BYTES_OF_AVERAGES = 12, 4
# Of a process's rows: one that is made, two that wait, one on its way to the devices.
_BATCHES_IN_MEMORY = 4
# Of each worker process: one that it makes, one that waits.
_BATCHES_A_WORKER = 2


@dataclasses.dataclass(frozen=True)
class Checkup:
    """What `doctor.py` looks at.

    Attributes:
      sources: by what the data are for, what opens them where they lie. It gives None for optional
        ones that are not there.
      decoding: of a source's image files.
      layout: how the run lies on the devices, in words; raises where it cannot.
      stage: opens the training data by way of `config.input.stage`; None without.
      checkpoint_bytes: () -> the size of a checkpoint, about.
      checkpoints: so many lie in the workdir at a time.
      batch_bytes, shared_bytes: of this process's batches in memory, of those in /dev/shm.
    """

    sources: dict[str, Callable[[], Source | None]]
    decoding: Callable[[Source], Decoding]
    layout: Callable[[], str]
    stage: Callable[[], object] | None
    checkpoint_bytes: Callable[[], int]
    checkpoints: int
    batch_bytes: int
    shared_bytes: int


def checkup_of(config: ConfigDict, processes: int) -> Checkup:
    """What a training with this config needs of one of so many processes; opens nothing yet.

    Raises:
      BadInput: an image size that is none, one of `config.imports` that is not there.
    """
    import_modules(config.imports)
    batch = -(-config.batch_size // processes) * math.prod(image_size_of(config)) * 3
    in_place = config.copy_and_resolve_references()
    in_place.input.stage = ""
    return Checkup(
        sources={"training": lambda: training_source(in_place)[0]} | _evaluated(in_place),
        decoding=functools.partial(decoding_of, in_place),
        layout=lambda: _layout(in_place),
        stage=functools.partial(_staged, config) if config.input.stage else None,
        checkpoint_bytes=lambda: _checkpoint_bytes(in_place),
        checkpoints=config.runtime.keep_checkpoints + bool(config.best) + 1,  # one being written
        batch_bytes=_BATCHES_IN_MEMORY * batch,
        shared_bytes=_BATCHES_A_WORKER * batch * config.runtime.workers,
    )


def _evaluated(config: ConfigDict) -> dict[str, Callable[[], Source | None]]:
    found = {}
    for name in sorted(config.evaluators):
        for dataset, split in splits_of(config, name):
            optional = config.evaluators[name].optional
            opens = functools.partial(_open, config, dataset, split, optional)
            found[f"{name}, {dataset} {split}"] = opens
    return found


def _open(config: ConfigDict, dataset: str, split: str, optional: bool) -> Source | None:
    try:
        return open_data(config, dataset, split)
    except errors.Missing:
        if not optional:
            raise
        return None


def _staged(config: ConfigDict) -> object:
    source, _ = training_source(config)
    return training_reader(config, source, sharding.make_mesh(), config.batch_size)


def _layout(config: ConfigDict) -> str:
    mesh = training_mesh(config)
    placement.parameter_specs(_shapes(config), mesh, rules_of(config))
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return f"{config.runtime.strategy}, {sizes}"


def _checkpoint_bytes(config: ConfigDict) -> int:
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(config)))
    return parameters * (_BYTES_A_PARAMETER + _BYTES_OF_AVERAGES * (config.ema_decay > 0))


def _shapes(config: ConfigDict) -> Any:
    """Of the parameters."""
    fields = config.model.to_dict()
    name, classes = fields.pop("name"), fields.pop("num_classes")
    if not classes:
        try:
            classes = len(training_source(config)[0].classes)
        except errors.BadInput:  # which is said of the data
            classes = 1
    size = image_size_of(config)
    return adapt.shapes(build_model(name, fields | {"num_classes": classes}, size), size)
