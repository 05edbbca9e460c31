"""From the config to the preparation of a dataset."""

import os
import re
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from mixer import errors
from mixer.data import sources
from mixer.data.prepare import against, readers
from mixer.data.prepare.dataset import Preparation
from mixer.runs.build.data import data_dir
from mixer.runs.build.parts import at_least
from mixer.runs.imports import import_modules


def preparation(config: ConfigDict) -> Preparation:
    """What `config.prepare` asks for, without reading the images.

    Raises:
      BadInput: a source, a name or a test set that will not do.
    """
    import_modules(config.imports)
    asked = config.prepare
    at_least(1, **{"prepare.shard_size": asked.shard_size})
    at_least(0, **{"prepare.processes": asked.processes})
    reader = readers.open_reader(asked.source)
    name, _, version = (asked.name or reader.dataset or config.dataset).partition(":")
    taken = {"digits", "folder", *tfds.list_builders(with_community_datasets=False)}
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
    return Preparation(
        source=asked.source,
        reader=reader,
        target=directory / name / version,
        split=asked.split,
        shard_bytes=asked.shard_size * 10**6,
        processes=asked.processes or os.cpu_count() or 1,
        dedup_against=asked.dedup_against,
        test_sets=against.open_sets(asked.dedup_against, directory),
    )
