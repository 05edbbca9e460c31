"""Opens prepared TFDS datasets without TensorFlow, and explains what is wrong with a broken one."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from mixer import errors, storage
from mixer.data.sources import in_place, remote_dataset

# What people call TFDS's datasets, in lower case and without punctuation.
_OTHER_NAMES = {
    "imagenet2012": "imagenet imagenet1k ilsvrc ilsvrc2012 in1k",
    "imagenet2012_real": "imagenetreal",
    "cifar10": "cifar",
    "cifar100": "cifar",
    "oxford_iiit_pet": "pet pets oxfordpet oxfordpets oxfordiiitpets",
    "oxford_flowers102": "flowers flowers102 oxfordflowers",
    "svhn_cropped": "svhn",
    "cars196": "cars stanfordcars",
    "caltech_birds2011": "birds cub cub200",
    "food101": "food",
    "places365_small": "places places365",
}


def published_names() -> list[str]:
    """The names of the datasets that come with TFDS."""
    return tfds.list_builders(with_community_datasets=False)


def meant_by(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of the known names that `name` most likely means, datasets by any usual name."""
    usual = {}
    for ours, others in _OTHER_NAMES.items():
        for other in others.split():
            usual.setdefault(other, []).append(ours)
    plain = re.sub(r"\W|_", "", name).lower()
    if plain in usual:
        return usual[plain]
    near = errors.nearest(name, [*known, *usual])
    return list(dict.fromkeys(ours for found in near for ours in usual.get(found, [found])))[:3]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A dataset in TFDS's layout, valid while its metadata are available locally.

    Attributes:
      name: as requested.
      data_dir: the folder or bucket that contains it.
      local: the same, or a local folder with the metadata of a remote dataset.
    """

    name: str
    data_dir: Path | str
    local: Path
    builder: tfds.core.DatasetBuilder

    def records(self, split: str) -> Any:
        """Random access to a split's records, with images as stored files, not decoded.

        Raises:
          BadInput: the dataset is stored as TFRecord.
        """
        features = self.builder.info.features.items()
        images = (name for name, kind in features if isinstance(kind, tfds.features.Image))
        skip = {name: tfds.decode.SkipDecoding() for name in images}
        try:
            records = self.builder.as_data_source(split, decoders=skip)
        except NotImplementedError:
            raise errors.BadInput(_how_to_convert(self.name, self.builder.data_path)) from None
        if not storage.is_remote(self.data_dir):
            return records
        return remote_dataset.Records.open(self.builder, split, skip, self.local, self.data_dir)


@contextlib.contextmanager
def open_prepared(
    dataset: str, data_dir: Path | str, also_known: Sequence[str] = ()
) -> Iterator[Prepared]:
    """Opens a prepared dataset; copies the metadata of a remote one while the context is open.

    Args:
      also_known: other known datasets, for suggestions if the name is unknown.

    Raises:
      Missing: the dataset is not prepared or not known.
      BadInput: its name is malformed, its files are damaged, its version is unknown, or `data_dir`
        does not respond.
    """
    with remote_dataset.metadata(dataset, data_dir) as local:
        yield Prepared(dataset, data_dir, local, _builder(dataset, data_dir, local, also_known))


def _builder(
    dataset: str, data_dir: Path | str, local: Path, also_known: Sequence[str]
) -> tfds.core.DatasetBuilder:
    if dataset.startswith("huggingface:"):
        raise errors.BadInput(
            f"dataset {dataset!r}: datasets cannot be read from the Hugging Face Hub. Save the "
            f"images as PATH/<split>/<class>/*.jpg and use folder:PATH"
        )
    try:
        builder = tfds.builder(dataset, data_dir=local, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError:
        if wrong := _damage(dataset, data_dir, local):
            raise errors.BadInput(wrong) from None
        known = [*also_known, *published_names()]
        near = [there] if (there := in_place.meant_by(dataset)) else meant_by(dataset, known)
        found = errors.unknown("dataset", dataset, known, near=near)
        line = str(found).split(" Known:")[0]
        raise errors.Missing(
            f"{line} It is not one of TFDS's, and not prepared in {data_dir}. Your own images: "
            f"folder:PATH, with PATH/train/<class>/*.jpg; millions of them: config.run=prepare"
        ) from None
    except Exception as error:  # TFDS raises many kinds if the dataset's files are damaged
        first = (str(error).strip() or repr(error)).splitlines()[0]
        if there := in_place.meant_by(dataset):
            first = f"did you mean {there!r}?"
        wrong = _damage(dataset, data_dir, local) or f"dataset {dataset!r}: {first}"
        raise errors.BadInput(wrong) from None
    if not builder.info.splits:
        raise errors.Missing(_how_to_prepare(dataset, data_dir))
    return builder


def _damage(dataset: str, data_dir: Path | str, local: Path) -> str | None:
    """What is wrong with the metadata files of a prepared dataset; None if nothing is found."""
    name, _, version = dataset.partition(":")
    files = [*(local / name).glob("**/*.json"), *(local / name).glob("**/*record*")]
    folders = {file.parent for file in files if re.fullmatch(r"[\d.]+", file.parent.name)}
    found = {folder.name for folder in folders}
    if version and found and version not in found:
        return f"dataset {name!r} is prepared in version {', '.join(sorted(found))}, not {version}"
    for folder in sorted(folders):
        for file, key in (("dataset_info.json", "splits"), ("features.json", "pythonClassName")):
            trouble = "does not describe a dataset"
            with contextlib.suppress(TypeError):
                try:
                    if key in json.loads((folder / file).read_text()):
                        continue
                except FileNotFoundError:
                    trouble = "is missing"
                except (OSError, ValueError) as error:
                    trouble = f"is damaged: {str(error).splitlines()[0]}"
            place = f"{str(data_dir).rstrip('/')}/{folder.relative_to(local).as_posix()}"
            return (
                f"dataset {dataset!r}: {place}/{file} {trouble}. Copy it again from the dataset's "
                f"origin, or delete {place} and prepare the dataset again"
            )
    return None


def _how_to_prepare(dataset: str, data_dir: Path | str) -> str:
    missing = f"dataset {dataset!r} is not prepared in {data_dir}. Run once: "
    if dataset.split(":")[0] == "imagenet2012":
        return missing + (
            f"{errors.command()} --config=imagenet --config.run=prepare "
            f"--config.prepare.source=imagenet:PATH --config.runtime.data_dir={data_dir} "
            f"--workdir=runs/prepare, where PATH is the folder that contains "
            f"ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
        )
    return missing + (
        f"pip install -r requirements-prepare.txt && "
        f'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({dataset!r}, data_dir={str(data_dir)!r}, file_format='array_record')"
        f'.download_and_prepare()"'
    )


def _how_to_convert(dataset: str, path: str) -> str:
    return (
        f"dataset {dataset!r} at {path} is stored as TFRecord, which has no random access. Run "
        f"once: "
        f"pip install -r requirements-prepare.txt && tfds convert_format "
        f"--dataset_version_dir={path} --out_file_format=array_record"
    )
