"""`config.run="plan"`: what a training step needs on given devices, none of which need be there."""

import dataclasses
import importlib.util
import math
import os
import re
import time
from typing import Any

import jax
import tensorflow_datasets as tfds
from etils import epath
from jax.experimental import topologies
from ml_collections import ConfigDict

from mixer import errors
from mixer.benchmark import hlo, peaks
from mixer.data import sources
from mixer.runs import workdir
from mixer.runs.data import data_dir, reading_of, training_split
from mixer.runs.imports import import_modules
from mixer.runs.model import build_model, image_size_of, resolution, training_mesh
from mixer.runs.results import Results
from mixer.runs.update import Update, update_of
from mixer.training import schedules


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of one step; bytes are those of one device.

    Attributes:
      parameters, optimizer, averages: of the training state.
      gradients: in float32, as large as the parameters' part.
      temporary: all that lives within the step.
      activations: of that all but the gradients: what is kept for them, and buffers.
      peak: of all together. Of what does not fit the compiler names `temporary` or `peak`.
      capacity: the device's memory; None if it is not known.
      fits: None if it is not known.
      flops: of one device; None if they cannot be counted.
      flops_per_image: of training, by the model's equations.
      ideal_flops: these for the batch, spread evenly. (Of a convolution they count the taps that
        fall on the padding too, which a program leaves out: 3 % of a BiT-R50x1's at 224.)
      sent: to other devices, by the kind of collective, in rings.
      collectives: how many there are in a step, by kind.
      compile_seconds: on this machine.
    """

    parameters: int
    optimizer: int
    averages: int
    gradients: int
    temporary: int | None
    activations: int | None
    peak: int | None
    capacity: int | None
    fits: bool | None
    flops: int | None
    flops_per_image: int | None
    ideal_flops: float | None
    sent: dict[str, float]
    collectives: dict[str, int]
    compile_seconds: float


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step, and what the model and the dataset are called."""

    model: str
    dataset: str
    update: Update


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Compiles the config's step, prints what it needs and writes results.json.

    Raises:
      BadInput: before anything is written.
    """
    planned = planned_step(config)
    workdir.begin(path, config)
    update, plan = planned.update, make(planned.update)
    print("\n".join(_lines(update, plan)), flush=True)
    workdir.write_results(
        path,
        Results(
            run="plan",
            protocol=protocol,
            model=planned.model,
            dataset=planned.dataset,
            resolution=resolution(update.image_size),
            seed=config.seed,
            batch_size=update.batch_size,
            params=update.num_params,
            metrics=_metrics(plan),
            device_kind=update.mesh.devices.flat[0].device_kind,
            devices=update.mesh.size,
        ),
    )


def planned_step(config: ConfigDict) -> Planned:
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


def make(update: Update) -> Plan:
    """Compiles and reads; nothing is allocated on the devices."""
    state = update.abstract_state()
    device = update.mesh.devices.flat[0]
    peak = peaks.peak(device)
    capacity = peak and peak.memory
    work = update.flops_per_image
    known = dict(
        parameters=_bytes(state.params),
        optimizer=_bytes(state.opt_state),
        averages=_bytes(state.ema),
        gradients=_bytes(state.params),
        capacity=capacity,
        flops_per_image=work,
        ideal_flops=work and work * update.batch_size / update.mesh.size,
    )
    began = time.perf_counter()
    try:
        compiled = update.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        temporary, peak = _needed(str(error))
        return Plan(
            **known,
            temporary=temporary,
            activations=None,
            peak=peak,
            fits=False,
            flops=None,
            sent={},
            collectives={},
            compile_seconds=time.perf_counter() - began,
        )
    seconds = time.perf_counter() - began
    memory, program = compiled.memory_analysis(), hlo.read(compiled.as_text())
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    used += memory.output_size_in_bytes - memory.alias_size_in_bytes
    used += memory.generated_code_size_in_bytes
    return Plan(
        **known,
        temporary=memory.temp_size_in_bytes,
        activations=max(memory.temp_size_in_bytes - known["gradients"], 0),
        peak=used,
        fits=used <= capacity if capacity else None,
        flops=2 * program.macs,
        sent=program.sent(),
        collectives=program.counts(),
        compile_seconds=seconds,
    )


def _needed(message: str) -> tuple[int | None, int | None]:
    """(bytes within a step, bytes of all) by the compiler's complaint, which names one of them."""
    found = re.search(r"(Used |temporaries \()([\d.]+)([KMGT])", message)
    if not found:
        return None, None
    size = int(float(found[2]) * 1024 ** (1 + "KMGT".index(found[3])))
    return (None, size) if found[1] == "Used " else (size, None)


def _bytes(tree: Any) -> int:
    """Of one device's part."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _lines(update: Update, plan: Plan) -> list[str]:
    def gib(value):
        return "unknown" if value is None else f"{value / 2**30:.2f} GiB"

    verdict = {
        True: f"fits in {gib(plan.capacity)}",
        False: f"DOES NOT FIT in {gib(plan.capacity)}",
        None: "how much memory there is, is not known",
    }
    mesh = " x ".join(f"{axis} {size}" for axis, size in update.mesh.shape.items())
    lines = [
        f"{update.num_params:,} parameters, batches of {update.batch_size:,} on {update.mesh.size} "
        f"{update.mesh.devices.flat[0].device_kind} ({mesh})",
        f"each holds parameters {gib(plan.parameters)}, optimizer {gib(plan.optimizer)}, averages "
        f"{gib(plan.averages)}; within a step {gib(plan.temporary)}: gradients "
        f"{gib(plan.gradients)}, activations and buffers {gib(plan.activations)}",
        f"together {gib(plan.peak)}; " + verdict[plan.fits],
    ]
    if plan.fits is False:
        lines.append(
            "what needs less: runtime.scan=True with runtime.remat=dots or full, a larger "
            "micro_batches, runtime.strategy=fsdp with runtime.mesh.fsdp (each --config.KEY=)"
        )
    if plan.flops_per_image:
        lines.append(f"{plan.flops_per_image / 1e9:.2f} GFLOPs a training image")
    if plan.flops and plan.ideal_flops:
        share = plan.flops / plan.ideal_flops
        lines.append(
            f"each does {plan.flops / 1e12:.3f} TFLOPs a step, {share:.3f} of an equal share"
        )
    for kind, size in sorted(plan.sent.items()):
        count = plan.collectives[kind]
        lines.append(f"each sends {size / 2**20:,.1f} MiB a step in {count:,} {kind}s")
    return [*lines, f"compiled in {plan.compile_seconds:.1f} s"]


def _metrics(plan: Plan) -> dict[str, float | None]:
    values = dataclasses.asdict(plan)
    sent, collectives = values.pop("sent"), values.pop("collectives")
    alone = ("fits", "flops", "flops_per_image", "ideal_flops", "compile_seconds")
    named = {k if k in alone else f"{k}_bytes": value for k, value in values.items()}
    named |= {f"sent_by_{kind}_bytes": size for kind, size in sent.items()}
    named |= {f"{kind}s": count for kind, count in collectives.items()}
    return {f"plan/{name}": value for name, value in named.items()}
