"""From the config to a training step for devices that need not be there."""

import dataclasses
import importlib.util
import os

import jax
import tensorflow_datasets as tfds
from jax.experimental import topologies
from ml_collections import ConfigDict

from mixer import errors
from mixer.data import sources
from mixer.runs.build.data import data_dir, reading_of, training_split
from mixer.runs.build.layout import training_mesh
from mixer.runs.build.parts import build_model, image_size_of
from mixer.runs.build.update import Update, update_of
from mixer.runs.imports import import_modules
from mixer.training import schedules


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step, and what the model and the dataset are called."""

    model: str
    dataset: str
    update: Update


def planned(config: ConfigDict) -> Planned:
    """The config's step for `config.plan.topology`, or for this machine's devices.

    The dataset need not be prepared, if it is one of TFDS's or `config.model.num_classes` is set.

    Raises:
      BadInput: whatever cannot be built, an unknown topology, or no TPU compiler.
    """
    import_modules(config.imports)
    image_size = image_size_of(config)
    fields = config.model.to_dict()
    name = fields.pop("name")
    devices = _tpus(config.plan.topology) if config.plan.topology else jax.devices()
    mesh = training_mesh(config, devices)
    classes, max_labels = _classes(config)
    model = build_model(name, fields | {"num_classes": classes}, image_size)
    # What it is in numbers changes neither the work nor the memory.
    schedule = schedules.make_schedule("constant", base=1e-3, end=0, warmup=0, total=1)
    update = update_of(config, model, image_size, schedule, mesh, max_labels)
    return Planned(name, config.dataset, update)


def _classes(config: ConfigDict) -> tuple[int, int]:
    """How many classes there are, and how many labels an image may have (0: one)."""
    given = config.model.num_classes
    try:
        reading = reading_of(config, config.dataset)
        split = training_split(config)
        source = sources.open_source(config.dataset, split, data_dir(config), reading)
    except errors.Missing:
        return given or known_classes(config.dataset), 0
    return given or len(source.classes), sources.max_labels(source)


def known_classes(dataset: str) -> int:
    """How many classes a dataset has that is not prepared.

    Raises:
      BadInput: TFDS does not know it.
    """
    try:
        builder = tfds.builder(dataset, try_gcs=False)
        return builder.info.features["label"].num_classes
    except (tfds.core.DatasetNotFoundError, KeyError, AttributeError, ValueError):
        raise errors.BadInput(
            f"{dataset} is not prepared here, and how many classes it has is not known without it: "
            f"set --config.model.num_classes="
        ) from None


def _tpus(topology: str) -> list:
    """Descriptions of the TPU cores of a slice such as "v3:4x4", for the compiler."""
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise errors.BadInput(
            f"config.plan.topology={topology} needs the TPU compiler, which runs on any Linux "
            f"machine: pip install -r requirements-tpu-plan.txt"
        )
    jax.config.update("jax_platforms", "cpu")
    # It is the compiler alone that is wanted: nothing is to be asked of a cloud.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is held
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v3-8")
    # Cloud TPU runs both cores of a v4 chip as one device.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:
        raise errors.BadInput(
            f"config.plan.topology={topology!r}: {str(error).splitlines()[0]}. Expected a "
            f"generation (v3, v4, v5e, v5p, v6e) and a grid of chips, as v3:4x4 or v4:2x2x4"
        ) from None
    return found.devices
