"""`config.run="prepare"`: turns images into an ArrayRecord dataset that every other run reads."""

import os
import re
import time
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from mixer import errors, storage
from mixer.data import sources
from mixer.data.sources import in_place, tfds_vectors
from mixer.data.sources.tfds_builder import published_names
from mixer.prepare import dataset, dedup, readers
from mixer.runs import workdir
from mixer.runs.data import data_dir
from mixer.runs.imports import import_modules
from mixer.runs.keys import at_least
from mixer.runs.results import Results
from mixer.signals import StopSignal


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes `<data_dir>/<name>/<version>`; to the workdir, results.json and what was removed.

    Raises:
      BadInput: before anything is written.
      Failure: finished shards are kept, and the same command continues from them.
    """
    begin = time.perf_counter()
    job = preparation(config)
    with StopSignal() as stop:
        made = dataset.prepare(job, accept=lambda: workdir.begin(path, config), stop=stop.poll)
    if not made:
        return
    about = dataset.summary(job.target)
    if job.test_sets:
        with storage.write_whole(path / dataset.REMOVED) as file:
            file.write((job.target / dataset.REMOVED).read_bytes())
    for split, found in about["splits"].items():
        print(
            f"{split}: {found['examples']:,} examples in {found['shards']:,} shards, "
            f"{found['bytes'] / 1e6:,.1f} MB; {found['removed']:,} removed as test examples"
        )
    if vectors := about.get(tfds_vectors.RECORD):
        labels, count = "outputs", len(vectors["label"]["outputs"])
    else:
        labels, count = "classes", about["classes"]
    print(f"{labels}: {count:,}; done: {job.target}")
    workdir.write_results(
        path,
        Results(
            run="prepare",
            protocol=protocol,
            dataset=job.target.parent.name,
            seconds=time.perf_counter() - begin,
            metrics={
                f"{split}/{name}": value
                for split, found in about["splits"].items()
                for name, value in found.items()
            }
            | {f"dataset/{labels}": count, "dataset/failures": 0},
            device_kind=None,
            devices=None,
        ),
    )


def preparation(config: ConfigDict) -> dataset.Preparation:
    """Builds the preparation from `config.prepare`, without reading the images.

    Raises:
      BadInput: an invalid source, name or test set.
    """
    import_modules(config.imports)
    asked = config.prepare
    at_least(1, **{"prepare.shard_size": asked.shard_size})
    at_least(0, **{"prepare.processes": asked.processes})
    keys = {key: config.input[key] for key in readers.keys_of(asked.source)}
    needed = readers.needed_keys(asked.source, **keys)
    reader = readers.open_reader(asked.source, **keys)
    name, _, version = (asked.name or reader.dataset or config.dataset).partition(":")
    taken = {"digits", *in_place.NAMES, *published_names()}
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in taken - {reader.dataset}:
        raise errors.BadInput(
            f"config.prepare.name={name!r}: expected a name of your own, not one of TFDS's, in "
            f"lower-case letters, digits and underscores"
        )
    version = version or ("5.1.0" if name == "imagenet2012" else "1.0.0")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise errors.BadInput(f"config.prepare.name={asked.name!r}: expected a version like 1.0.0")
    directory = data_dir(config) or sources.default_data_dir()
    if not isinstance(directory, Path):
        raise errors.BadInput(
            f"config.runtime.data_dir={directory}: datasets are prepared in a folder; copy the "
            f"finished {name}/{version} there"
        )
    return dataset.Preparation(
        # Another column of the same files is another source.
        source="".join([asked.source, *(f", {key}={value}" for key, value in needed.items())]),
        reader=reader,
        target=directory / name / version,
        split=asked.split,
        shard_bytes=asked.shard_size * 10**6,
        processes=asked.processes or os.cpu_count() or 1,
        dedup_against=asked.dedup_against,
        test_sets=dedup.open_sets(asked.dedup_against, directory),
    )
