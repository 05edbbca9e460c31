"""`config.run="input_benchmark"`: measures how fast this machine reads the training images."""

import dataclasses
import functools
import os
import statistics

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.benchmark import grain_pipeline, input_pipeline
from mixer.data import pipeline, turbojpeg
from mixer.data.decode import opened
from mixer.data.order import Full
from mixer.data.randaugment import RandAugment
from mixer.data.sources import label_kinds
from mixer.data.transforms import Chain, FlipLeftRight, InceptionCrop
from mixer.runs import workdir
from mixer.runs.data import open_training_images
from mixer.runs.keys import at_least
from mixer.runs.model import resolution
from mixer.runs.reader import Reader
from mixer.runs.results import Results

# The rows of results.json for other people's pipelines; null if they were not asked for.
_OTHERS = ("tf_data", "grain_threads", "grain_processes")


@dataclasses.dataclass(frozen=True)
class InputBenchmark:
    """The reader and settings of a benchmark, from `config.benchmark`."""

    reader: Reader
    images: int
    rounds: int
    demand: float
    tf_data: bool
    grain: bool


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Times each stage of the input pipeline, then all of it with threads and with processes.

    Raises:
      BadInput: before anything is written.
    """
    asked = build_benchmark(config)
    reader = asked.reader
    own, others = _pipelines(reader), {}
    if asked.tf_data:
        others["tf.data"] = {"tf_data": _tf_data(reader, asked.images)}
    if asked.grain:
        others["the better of Grain's"] = _grain(reader)
    pipelines = own | {
        name: start for several in others.values() for name, start in several.items()
    }
    workdir.begin(path, config)
    reader.stage()
    rows = reader.rows
    print(f"{reader.source.name} {reader.source.split} ({len(reader.source):,} images)")
    print(f"JPEGs are decoded by {turbojpeg.decoder()}")
    later = reader.second_epoch * reader.batch_size
    spent = input_pipeline.stages(
        lambda index: reader.source[index]["image"],
        lambda image: rows.opened(image, later),
        [Chain((transform,)) for transform in rows.transform.transforms],
        lambda batch: jax.block_until_ready(reader.put(batch)),
        _readable(rows, asked.images),
        len(rows.rows),
    )
    parts = ", ".join(f"{name} {microseconds:,.0f}" for name, microseconds in spent.items())
    print(f"one image on one thread, microseconds: {parts}")
    batches = -(-asked.images // len(rows.rows))
    measured = input_pipeline.rates(pipelines, len(rows.rows), batches, asked.rounds)
    medians = {name: statistics.median(values) for name, values in measured.items()}
    print(f"images/s, median of {asked.rounds} (lowest to highest):")
    for name, values in measured.items():
        print(f"  {name:16}{medians[name]:8,.0f}  ({min(values):,.0f} to {max(values):,.0f})")
    most = max(own, key=medians.get)
    best = medians[most]
    cores = os.cpu_count() or 1
    needed = asked.demand * jax.local_device_count() / (best / min(cores, int(most.split("_")[1])))
    for whose, several in others.items():
        theirs = max(medians[name] for name in several)
        print(f"{most} is {best / theirs:.2f} times as fast as {whose}")
    print(
        f"to feed {asked.demand:,.0f} images/s to each of {jax.local_device_count()} devices: "
        f"{needed:.1f} cores like these"
    )
    metrics = {f"{name}_microseconds": value for name, value in spent.items()}
    names = (*own, *_OTHERS)
    metrics |= {f"{name}_images_per_second": medians.get(name) for name in names}
    metrics["cores_needed"] = needed
    workdir.write_results(
        path,
        Results(
            run="input_benchmark",
            protocol=protocol,
            dataset=reader.source.name,
            resolution=resolution(rows.padding["image"].shape[:2]),
            seed=rows.seed,
            batch_size=reader.batch_size,
            fast_decode=rows.decoding.fast,
            decoder=turbojpeg.decoder(),
            metrics=metrics,
        ),
    )


def _readable(rows: pipeline.Rows, count: int) -> list[int]:
    """The indices of the first examples of a training, without those that it would skip.

    Raises:
      BadExample: one of them cannot be read.
    """
    indices = [rows.order[number] for number in range(count)]
    if rows.skip_bad:
        return [index for index in indices if not rows.unusable(index)]
    for number in range(count):
        rows(number)
    return indices


def build_benchmark(config: ConfigDict) -> InputBenchmark:
    """Opens the training images in batches of `config.benchmark.batch_size`."""
    asked = config.benchmark
    for key in ("images", "batch_size", "rounds", "demand"):
        at_least(1, **{f"benchmark.{key}": asked[key]})
    own = config.copy_and_resolve_references()
    own.runtime.threads = own.runtime.workers = 0  # unused: the benchmark tries several numbers
    reader = open_training_images(own, asked.batch_size)
    return InputBenchmark(
        reader, asked.images, asked.rounds, asked.demand, asked.tf_data, asked.grain
    )


def _pipelines(reader: Reader) -> dict:
    """Pipelines of 1, 2, 4, ... threads and as many processes, up to the number of cores."""
    cores = os.cpu_count() or 1
    counts = sorted({min(2**power, cores) for power in range(cores.bit_length())} | {cores})
    first = reader.second_epoch
    start = functools.partial(
        pipeline.batches, reader.rows, start=first, stop=first + 2**31 // 4096
    )
    return {
        f"{kind}_{count}": functools.partial(
            start,
            threads=count if kind == "threads" else 1,
            workers=count if kind == "processes" else 0,
        )
        for kind in ("threads", "processes")
        for count in counts
    }


def _tf_data(reader: Reader, images: int):
    """A function that starts the same recipe in tf.data, with one thread per core."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from mixer.benchmark import tf_data
    except ImportError:
        raise errors.BadInput(
            "config.benchmark.tf_data=True needs TensorFlow: pip install -r "
            "requirements-benchmark.txt"
        ) from None
    chain = reader.rows.transform.transforms
    height, width, channels = reader.rows.padding["image"].shape
    size = height, width
    known = (InceptionCrop(size), FlipLeftRight())
    magnitude = None if chain == known else getattr(chain[-1], "magnitude", None)
    if channels != 3 or chain not in (known, (*known, RandAugment(2, magnitude or 0))):
        raise errors.BadInput(
            "config.benchmark.tf_data=True can compare only inception_crop|flip_lr and "
            "inception_crop|flip_lr|randaug(2, M), for images of 3 channels"
        )
    files = [reader.source[i]["image"] for i in range(min(images, len(reader.source)))]
    return functools.partial(
        tf_data.batches,
        files,
        size,
        magnitude,
        batch_size=len(reader.rows.rows),
        threads=os.cpu_count() or 1,
    )


def _grain(reader: Reader) -> dict:
    """Functions that start the same recipe in Grain's own API: a thread or a process per core.

    Raises:
      BadInput: Grain has nothing like the config's order, or its way with unreadable images.
    """
    rows, cores = reader.rows, os.cpu_count() or 1
    for fits, key, why in (
        (isinstance(rows.order, Full), "shuffle=full", "Grain shuffles single images"),
        (not rows.skip_bad, "on_bad=error", "Grain skips no image that it cannot read"),
    ):
        if not fits:
            raise errors.BadInput(f"config.benchmark.grain=True needs --config.input.{key}: {why}")
    start = functools.partial(
        grain_pipeline.batches,
        reader.source,
        functools.partial(
            opened,
            decoding=rows.decoding,
            channels=rows.padding["image"].shape[2],
            to_the_end=False,
        ),
        rows.transform,
        functools.partial(
            pipeline.label_row,
            padding=rows.padding["label"],
            num_classes=len(reader.source.classes),
            kind=label_kinds.of(reader.source).kind,
        ),
        seed=rows.seed,
        batch_size=len(rows.rows),
    )
    return {
        "grain_threads": functools.partial(start, threads=cores),
        "grain_processes": functools.partial(
            start, workers=cores, worker_init=pipeline.start_worker
        ),
    }
