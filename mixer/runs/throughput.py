"""`config.run="throughput"`: images/s of models on these devices, and their ratios (tables 2, 3).

Measured as in the paper: constant images already on the devices, the head included, the best batch
size (section 3, "Metrics"). Absolute numbers depend on this machine; their ratios are the result.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import linen as nn
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer.benchmark import throughput
from mixer.data.sources.label_kinds import Labels
from mixer.models import registry
from mixer.paper import published
from mixer.planning import flops, peaks
from mixer.runs import keys, workdir
from mixer.runs.imports import import_modules
from mixer.runs.model import (
    build_model,
    image_size_of,
    mesh_of,
    model_fields,
    resolution,
    with_memory_saved,
)
from mixer.runs.results import Results
from mixer.runs.sam import passes
from mixer.runs.update import Update, update_of
from mixer.training import meshes, schedules

_RATE = "images_per_second_per_device"
_CLASSES = 1000  # ImageNet, as in the paper; the head is a small part of the work


@dataclasses.dataclass(frozen=True)
class _Case:
    """One model at one resolution."""

    name: str
    model: nn.Module
    image_size: tuple[int, int]

    @property
    def label(self) -> str:
        """The name in metrics, such as "Mixer-B/16@224"."""
        return f"{self.name}@{resolution(self.image_size)}"


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Measures each model, prints a table, writes it to throughput.csv, and writes results.json.

    Raises:
      BadInput: before anything is written.
    """
    asked = config.throughput
    keys.at_least(1, **{f"throughput.{k}": asked[k] for k in ("calls", "largest_batch")})
    keys.at_least(0, **{"throughput.patience": asked.patience})
    import_modules(config.imports)
    cases = _cases(config)
    mesh = mesh_of(config)
    kinds = {"inference": lambda case, batch: _inference(config, case, mesh, batch)}
    if asked.training:
        kinds["training"] = lambda case, batch: _training(config, case, mesh, batch)
        for case in cases:
            _training_step(config, case, mesh, mesh.size)  # refuses now what cannot be trained
    workdir.begin(path, config)
    device = mesh.devices.flat[0]
    print(f"{mesh.size} x {device.device_kind}, {_precision(config)}", flush=True)
    found = {}
    for case in cases:
        for kind, prepare in kinds.items():
            rate = _best(case, kind, prepare, mesh.size, asked)
            if rate is not None:
                times = passes(config) if kind == "training" else 1
                found[case.label, kind] = _numbers(
                    case, kind, rate, mesh.size, peaks.peak(device), times
                )
    ratios = _ratios(found, cases[0].label)
    rows = _rows(found, ratios, cases[0].label)
    if rows:
        print(_markdown(rows))
        workdir.write_csv(path / "throughput.csv", rows)
    metrics = {f"{case}/{kind}_{k}": v for (case, kind), n in found.items() for k, v in n.items()}
    metrics |= {f"{case}:{cases[0].label}/{kind}_ratio": v for (case, kind), v in ratios.items()}
    workdir.write_results(
        path,
        Results(
            run="throughput",
            protocol=protocol,
            model=cases[0].name if len({c.name for c in cases}) == 1 else None,
            resolution=resolution(cases[0].image_size),
            metrics={f"throughput/{name}": value for name, value in metrics.items()},
            precision=_precision(config),
        ),
    )


def _cases(config: ConfigDict) -> list[_Case]:
    """`config.throughput.models` at each of its resolutions; by default the config's of both."""
    sizes = [(size, size) for size in config.throughput.resolutions]
    sizes = sizes or [image_size_of(config)]
    return [
        _Case(name, build_model(name, fields, size), size)
        for size in sizes
        for name, fields in _models(config).items()
    ]


def _models(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """{model name: its fields}."""
    if not config.throughput.models:
        fields = model_fields(config)
        fields["num_classes"] = fields["num_classes"] or _CLASSES
        return {fields.pop("name"): fields}
    found = {}
    for name in config.throughput.models:
        found[name] = registry.model_fields(name) | {"num_classes": _CLASSES}
        if "dtype" in found[name]:
            found[name]["dtype"] = _precision(config)
    return found


def _precision(config: ConfigDict) -> str:
    return model_fields(config).get("dtype", "float32")


def _inference(config: ConfigDict, case: _Case, mesh, batch_size: int) -> Callable[[], None]:
    model = with_memory_saved(case.model, config)
    shape = (*case.image_size, batch_lib.channels(model))
    params = jax.jit(
        lambda key: model.init(key, jnp.ones((1, *shape)))["params"],
        out_shardings=meshes.replicated(mesh),
    )(jax.random.key(0))
    images = jnp.ones((batch_size, *shape), device=meshes.batch_sharding(mesh))
    apply = jax.jit(meshes.shard_activations(model.apply, mesh))

    def call():
        jax.block_until_ready(apply({"params": params}, images))

    return call


def _training_step(config: ConfigDict, case: _Case, mesh, batch_size: int) -> Update:
    own = config.copy_and_resolve_references()
    own.batch_size = batch_size
    own.model = {"dtype": _precision(config)}  # the other fields are in case.model
    schedule = schedules.make_schedule("constant", base=1e-3, end=0, warmup=0, total=1)
    return update_of(own, case.model, case.image_size, schedule, mesh, Labels())


def _training(config: ConfigDict, case: _Case, mesh, batch_size: int) -> Callable[[], None]:
    made = _training_step(config, case, mesh, batch_size)
    compiled = made.ready()
    batch = {
        k: jnp.ones(v.shape, v.dtype, device=v.sharding) for k, v in made.abstract_batch().items()
    }
    state = [made.create_state()]

    def call():
        state[0], metrics = compiled(state[0], batch)
        jax.block_until_ready(metrics)

    return call


def _best(case: _Case, kind: str, prepare, devices: int, asked: Any) -> throughput.Rate | None:
    found = []
    for rate in throughput.rates(
        lambda batch: prepare(case, batch),
        _doubled(devices, asked.largest_batch),
        calls=asked.calls,
        timeout=asked.patience,
    ):
        median, low, high = (r / devices for r in (rate.images_per_second, *rate.spread))
        print(
            f"{case.label} {kind}, batch {rate.batch_size}: {median:,.2f} images/s/device "
            f"({low:,.2f} to {high:,.2f}, {len(rate.seconds)} calls)",
            flush=True,
        )
        found.append(rate)
    if not found:
        print(f"{case.label} {kind}: not even a batch of {devices} fits in memory", flush=True)
        return None
    return max(found, key=lambda rate: rate.images_per_second)


def _doubled(first: int, largest: int) -> Iterator[int]:
    size = first
    while size <= max(first, largest):
        yield size
        size *= 2


def _numbers(
    case: _Case, kind: str, rate, devices: int, peak, times: int
) -> dict[str, float | None]:
    per_device = rate.images_per_second / devices
    low, high = (r / devices for r in rate.spread)
    try:
        count = {"inference": flops.forward_macs, "training": flops.training_macs}[kind]
        work = 2 * count(case.model, case.image_size) * times * per_device
    except flops.Uncountable:
        work = None
    return {
        _RATE: per_device,
        f"{_RATE}_lowest": low,
        f"{_RATE}_highest": high,
        "batch_size": rate.batch_size,
        "flops_per_second": work,
        "share_of_peak": work / peak.flops if work and peak else None,
    }


def _ratios(found: dict, reference: str) -> dict[tuple[str, str], float]:
    """{(model, kind): its rate divided by that of `reference`} of the other models."""
    return {
        (case, kind): numbers[_RATE] / found[reference, kind][_RATE]
        for (case, kind), numbers in found.items()
        if case != reference and (reference, kind) in found
    }


def _rows(found: dict, ratios: dict, reference: str) -> list[dict[str, str]]:
    """The table's rows, {heading: cell}; with the paper's inference ratio if it has both rates."""
    printed, rows = _printed(), []
    for (case, kind), numbers in found.items():
        work, share = numbers["flops_per_second"], numbers["share_of_peak"]
        ratio = 1.0 if case == reference else ratios.get((case, kind))
        both = kind == "inference" and case in printed and reference in printed
        rows.append(
            {
                "model": case,
                "kind": kind,
                "batch": str(numbers["batch_size"]),
                "images/s/device": f"{numbers[_RATE]:.2f}",
                "lowest": f"{numbers[f'{_RATE}_lowest']:.2f}",
                "highest": f"{numbers[f'{_RATE}_highest']:.2f}",
                "TFLOP/s": f"{work / 1e12:.3f}" if work else "",
                "of peak": f"{share:.1%}" if share else "",
                f"to {reference}": f"{ratio:.3f}" if ratio else "",
                "paper's": f"{printed[case] / printed[reference]:.3f}" if both else "",
            }
        )
    return rows


def _markdown(rows: list[dict[str, str]]) -> str:
    aligned = ["---", "---", *["---:"] * (len(rows[0]) - 2)]
    lines = [list(rows[0]), aligned, *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _printed() -> dict[str, float]:
    """{"MODEL@RESOLUTION": the paper's images/s/core on a TPUv3}."""
    return {
        f"{row['model']}@{row['image_size']}": row["throughput"]
        for table in ("table2", "table3")
        for row in published.table(table)
        if row["image_size"] and row["throughput"]
    }
