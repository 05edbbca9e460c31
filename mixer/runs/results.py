"""The content of results.json, which a complete run writes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from mixer.hosts import software

# Keys that a summary of several runs takes over if they all agree.
SHARED = (
    "model",
    "dataset",
    "resolution",
    "seed",
    "step",
    "epochs",
    "batch_size",
    "params",
    "upstream",
    "precision",
    "fast_decode",
    "decoder",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """The file's keys, in order; None if a key does not apply to the run.

    Attributes:
      protocol: the recipe with its words, such as "imagenet:Mixer-B/16".
      resolution: in pixels; [height, width] if they differ.
      epochs: passes over the training examples.
      seconds: time of the work itself, without building and compiling.
      params: number of parameters.
      metrics: {name: value}.
      upstream: where the parameters came from, by `weights.upstream_of`.
      teacher: of a distillation: as upstream, with `step`, `ema` and `checksums`.
      device_days: of this run alone.
      device_kind, devices: by default this machine's; None for a run that used none.
      mesh: {axis: number of devices along it}; "fsdp" and "tensor" shard the parameters.
      precision: dtypes, and the precision of float32 matrix products.
      decoder: library that decoded JPEGs, by `turbojpeg.decoder`.
      skipped_examples: number of examples that could not be read.
      ended_early: why a training ended at `step`, before the last one that its config asks for.
    """

    run: str
    protocol: str
    model: str | None = None
    dataset: str | None = None
    resolution: int | list[int] | None = None
    seed: int | None = None
    step: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    seconds: float | None = None
    params: int | None = None
    metrics: dict[str, Any]
    upstream: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    images_per_second_per_device: float | None = None
    device_days: float | None = None
    device_kind: str | None = dataclasses.field(
        default_factory=lambda: jax.devices()[0].device_kind
    )
    devices: int | None = dataclasses.field(default_factory=jax.device_count)
    mesh: dict[str, int] | None = None
    precision: str | None = None
    fast_decode: bool | None = None
    decoder: str | None = None
    skipped_examples: int | None = None
    ended_early: str | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=software.versions)
    commit: str | None = dataclasses.field(default_factory=software.commit)

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def common_values(parts: Sequence[dict]) -> dict:
    """The values of `SHARED` on which the results.json of several runs agree, else None."""
    return {
        key: parts[0][key] if all(part[key] == parts[0][key] for part in parts) else None
        for key in SHARED
    }


def cost(parts: Sequence[dict]) -> dict:
    """Total time, cost and skipped examples of several runs; their rate averaged over time."""
    seconds = sum(part["seconds"] for part in parts)
    rates = sum(part["seconds"] * part["images_per_second_per_device"] for part in parts)
    return {
        "seconds": seconds,
        "device_days": sum(part["device_days"] for part in parts),
        "images_per_second_per_device": rates / seconds,
        "skipped_examples": sum(part["skipped_examples"] for part in parts),
    }
