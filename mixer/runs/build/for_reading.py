"""From the config to its training images alone, without a model."""

import dataclasses

from ml_collections import ConfigDict

from mixer.runs.build.layout import mesh_of
from mixer.runs.build.parts import at_least, training_reader, training_source, within
from mixer.runs.imports import import_modules
from mixer.runs.reader import Reader


@dataclasses.dataclass(frozen=True)
class InputBenchmark:
    """What `config.benchmark` asks for."""

    reader: Reader
    images: int
    rounds: int
    demand: float
    tf_data: bool


def sheet_reader(config: ConfigDict) -> tuple[Reader, int]:
    """The first training images as one batch, and how many of them are asked for."""
    at_least(1, sheet=config.sheet)
    return _reader(config, config.sheet), config.sheet


def input_benchmark(config: ConfigDict) -> InputBenchmark:
    """The training images in batches of `config.benchmark.batch_size`."""
    asked = config.benchmark
    for key in ("images", "batch_size", "rounds", "demand"):
        at_least(1, **{f"benchmark.{key}": asked[key]})
    own = config.copy_and_resolve_references()
    own.runtime.threads = own.runtime.workers = 0  # it measures with several numbers of its own
    reader = _reader(own, asked.batch_size)
    return InputBenchmark(reader, asked.images, asked.rounds, asked.demand, asked.tf_data)


def _reader(config: ConfigDict, batch_size: int) -> Reader:
    """In batches of that size, or the next that the devices can share."""
    import_modules(config.imports)
    within(0, 2**32, seed=config.seed)
    mesh = mesh_of(config)
    source, _ = training_source(config)
    return training_reader(config, source, mesh, -(-batch_size // mesh.size) * mesh.size)
