"""`config.run="plan"`: memory, FLOPs and traffic of a training step, without the devices."""

import dataclasses

import jax
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from mixer import errors
from mixer.data import sources
from mixer.data.sources.label_kinds import Labels
from mixer.defaults import LESS_MEMORY
from mixer.hosts import peers
from mixer.hosts.devices import check as check_devices
from mixer.planning import micro_batches, peaks, slices, step_time
from mixer.planning.needs import StepCost, cost_of_step
from mixer.runs import keys, workdir
from mixer.runs.bill import Work, work_of
from mixer.runs.data import training_source
from mixer.runs.imports import import_modules
from mixer.runs.model import (
    build_model,
    image_size_of,
    model_fields,
    precision,
    resolution,
    training_mesh,
)
from mixer.runs.results import Results
from mixer.runs.teacher import teacher_of
from mixer.runs.update import Update, update_of
from mixer.training import schedules
from mixer.weights import fitting


@dataclasses.dataclass(frozen=True)
class Planned:
    """A training step, with the names of its model and dataset.

    Attributes:
      precision: for results.json.
      work: of the whole training; None if unknown.
      price: of a device-hour; 0 if unknown.
    """

    model: str
    dataset: str
    precision: str
    update: Update
    work: Work | None
    price: float


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Compiles the config's step and prints its cost; with a workdir, also writes results.json.

    Raises:
      BadInput: before anything is written.
    """
    path = workdir.unfinished(output, config) if output else None
    if output and path is None:  # complete
        return
    planned = planned_step(config)
    keys.used(config)  # refuses keys that would be ignored, before any work
    if path:
        workdir.begin(path, config)
    asked = _cost(planned.update)
    print("\n".join(_lines(planned.update, asked)), flush=True)
    planned, cost = _with_enough_micro_batches(config, planned, asked)
    update, bill = planned.update, _estimate(planned, cost)
    print("\n".join(_bill_lines(bill, cost, planned.work)), flush=True)
    if path is None:
        return
    numbers = {"micro_batches": update.micro_batches, "fits_as_asked": asked.fits}
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
            metrics=_metrics(cost)
            | {f"plan/{name}": value for name, value in (numbers | bill).items()},
            device_kind=update.mesh.devices.flat[0].device_kind,
            devices=update.mesh.size,
            mesh=dict(update.mesh.shape),
            precision=planned.precision,
        ),
    )


def planned_step(config: ConfigDict) -> Planned:
    """The config's step for `config.plan.topology`, or for this machine's devices.

    The dataset need not be prepared if TFDS knows it or `config.model.num_classes` is set.

    Raises:
      BadInput: the step cannot be built, the topology is unknown, or there is no TPU compiler.
    """
    import_modules(config.imports)
    image_size = image_size_of(config)
    devices = _devices(config)
    fields = model_fields(config, devices[0].platform)
    name = fields.pop("name")
    classes, labels = _classes(config)
    model = build_model(name, fields | {"num_classes": classes}, image_size)
    mesh = training_mesh(config, fitting.shapes(model, image_size), devices)
    # The values of the schedule affect neither FLOPs nor memory.
    schedule = schedules.make_schedule("constant", base=1e-3, end=0, warmup=0, total=1)
    teacher = teacher_of(config, model, image_size, mesh, labels, None)
    update = update_of(config, model, image_size, schedule, mesh, labels, teacher=teacher)
    return Planned(
        model=name,
        dataset=config.dataset,
        precision=precision(model),
        update=update,
        work=work_of(config),
        price=config.plan.price,
    )


def _cost(update: Update) -> StepCost:
    return cost_of_step(
        update.abstract_state(),
        update.compile,
        update.mesh,
        update.batch_size,
        update.flops_per_image,
    )


def _with_enough_micro_batches(
    config: ConfigDict, planned: Planned, cost: StepCost
) -> tuple[Planned, StepCost]:
    """The config's plan or, if its devices have too little memory for it, another, which it prints.

    See `micro_batches.enough`.
    """
    mesh, given = planned.update.mesh, config.micro_batches
    tried = {given: (planned, cost)}

    def cost_with(parts: int) -> StepCost:
        own = config.copy_and_resolve_references()
        own.micro_batches = parts
        other = planned_step(own)
        tried[parts] = other, _cost(other.update)
        if tried[parts][1].fits is False:
            print(f"DOES NOT FIT with --config.micro_batches={parts} either", flush=True)
        return tried[parts][1]

    taken = micro_batches.enough(
        cost,
        given,
        config.batch_size // (mesh.shape["data"] * mesh.shape["fsdp"]),
        peaks.peak(mesh.devices.flat[0]),
        cost_with,
        remat=config.runtime.remat != "none",
    )
    if taken != given:
        what = f"with --config.micro_batches={taken} it fits:"
        if cost.fits:
            what = (
                f"the compiler makes it fit by computing activations twice; "
                f"--config.micro_batches={taken} takes less time:"
            )
        print(what, *_lines(tried[taken][0].update, tried[taken][1]), sep="\n", flush=True)
    elif cost.fits is False:
        print(LESS_MEMORY, flush=True)
    return tried[taken]


def _devices(config: ConfigDict) -> list[jax.Device]:
    keys.at_least(1, **{"plan.slices": config.plan.slices})
    if config.plan.topology:
        return slices.devices(config.plan.topology, config.plan.slices)
    if config.plan.slices > 1:
        raise errors.BadInput(
            f"config.plan.slices={config.plan.slices} needs --config.plan.topology, a slice"
        )
    check_devices(peers.count())
    return jax.devices()


def _classes(config: ConfigDict) -> tuple[int, Labels]:
    """The number of classes, and what the labels are."""
    given = config.model.num_classes
    try:
        own = config.copy_and_resolve_references()
        own.input.stage = ""  # nothing is copied
        source, _ = training_source(own)
    except errors.Missing:
        return given or known_classes(config.dataset), Labels()
    return given or len(source.classes), sources.label_kinds.of(source)


def known_classes(dataset: str) -> int:
    """The number of classes of a dataset that is not prepared, from TFDS.

    Raises:
      BadInput: TFDS does not know it.
    """
    try:
        builder = tfds.builder(dataset, try_gcs=False)
        return builder.info.features["label"].num_classes
    except (tfds.core.DatasetNotFoundError, KeyError, AttributeError, ValueError):
        raise errors.BadInput(
            f"{dataset} is not prepared here, so its number of classes is unknown: set "
            f"--config.model.num_classes="
        ) from None


def _lines(update: Update, cost: StepCost) -> list[str]:
    def gib(value):
        return "unknown" if value is None else f"{value / 2**30:.2f} GiB"

    verdict = {
        True: f"fits in {gib(cost.capacity)}",
        False: f"DOES NOT FIT in {gib(cost.capacity)}",
        None: "the size of the memory is unknown",
    }
    mesh = " x ".join(f"{axis} {size}" for axis, size in update.mesh.shape.items())
    lines = [
        f"{update.num_params:,} parameters, batches of {update.batch_size:,} on {update.mesh.size} "
        f"{update.mesh.devices.flat[0].device_kind} ({mesh})",
        f"per device: parameters {gib(cost.parameters)}, optimizer {gib(cost.optimizer)}, averages "
        f"{gib(cost.averages)}; within a step {gib(cost.temporary)}: gradients "
        f"{gib(cost.gradients)}, activations and buffers {gib(cost.activations)}",
        f"together {gib(cost.peak)}; " + verdict[cost.fits],
    ]
    if update.teacher:
        lines.append(update.teacher.line)
    if cost.flops_per_image:
        lines.append(f"{cost.flops_per_image / 1e9:.2f} GFLOPs per training image")
    if cost.flops and cost.ideal_flops:
        share = cost.flops / cost.ideal_flops
        lines.append(
            f"per device: {cost.flops / 1e12:.3f} TFLOPs per step, {share:.3f} of an equal share"
        )
    for kind, size in sorted(cost.sent.items()):
        count = cost.collectives[kind]
        lines.append(f"per device: sends {size / 2**20:,.1f} MiB per step in {count:,} {kind}s")
    return [*lines, f"compiled in {cost.compile_seconds:.1f} s"]


def _metrics(cost: StepCost) -> dict[str, float | None]:
    values = dataclasses.asdict(cost)
    sent, collectives = values.pop("sent"), values.pop("collectives")
    alone = ("fits", "flops", "flops_per_image", "ideal_flops", "compile_seconds", "cycles")
    named = {k if k in alone else f"{k}_bytes": value for k, value in values.items()}
    named |= {f"sent_by_{kind}_bytes": size for kind, size in sent.items()}
    named |= {f"{kind}s": count for kind, count in collectives.items()}
    return {f"plan/{name}": value for name, value in named.items()}


def _estimate(planned: Planned, cost: StepCost) -> dict[str, float | None]:
    """{name: value}: seconds of a step and, if the work is known, the bill of the training."""
    mesh, work = planned.update.mesh, planned.work
    peak = peaks.peak(mesh.devices.flat[0])
    if peak is None or cost.accessed is None:
        return {}
    seconds = step_time.seconds(cost.flops, cost.accessed, peak)
    hosts = len({device.process_index for device in mesh.devices.flat})
    found = {
        "step_seconds": seconds,
        "images_per_second_per_host": planned.update.batch_size / seconds / hosts,
    }
    if work:
        found |= dataclasses.asdict(work.bill(seconds, mesh.size, planned.price))
    return found


def _bill_lines(found: dict[str, float | None], cost: StepCost, work: Work | None) -> list[str]:
    if cost.fits is False:
        return []
    if not found:
        return ["the time of a step is not estimated: the speed of this device is unknown"]
    lines = [
        f"a step takes about {found['step_seconds'] * 1e3:.1f} ms if no device waits for data: the "
        f"paper's trainings took {step_time.PAPER} times such an estimate",
        f"each host must read {found['images_per_second_per_host']:,.0f} images/s for that: "
        f"config.run=input_benchmark measures what it can",
    ]
    if work is None:
        return [*lines, "the number of steps is unknown without the dataset"]
    price = "" if found["cost"] is None else f", {found['cost']:,.0f} at the price of a device-hour"
    lines.append(
        f"{work.steps:,} steps take about {found['hours']:,.1f} hours or "
        f"{found['device_days']:,.1f} device-days{price}; evaluations are "
        f"{found['evaluating']:.1%} of it"
    )
    if work.unknown:
        lines.append(
            f"not included: the evaluators {', '.join(work.unknown)}, whose number of images is "
            f"unknown: their data are not here, or lack that split"
        )
    return lines
