"""`webdataset:PATH`: tars in which the files of an example follow each other: x.jpg, x.cls."""

import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from mixer import errors, storage
from mixer.data.sources import split_files, tar_members
from mixer.data.sources.collection import Collection, Files, Part, names
from mixer.data.sources.entry import Entry
from mixer.data.sources.image_files import is_hidden, is_image

_ENDING = ".tar"
_LABEL = ("cls", "label", "labels", "class", "cls.txt", "target")
_FORMAT = 2  # of a cached index
_CONNECTIONS = 8  # tars in a bucket that are listed at once
_MOST_BYTES = 2**16  # of a text or JSON that may contain a label
_LONGEST = 200  # characters of a label


def split_names(path: str) -> set[str]:
    """The splits that the names of the files tell."""
    return set(_find(path))


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """A tar, a folder of tars, or a glob, here or in a bucket.

    See `split_files.find` for their splits.

    The label of an example is its file x.cls, or an entry of x.json: a number, a name, or a list.
    Each tar is read once; where its images are, and the labels, is kept in the user's cache folder.

    Args:
      image_key: the ending of the images, if examples have several.
      label_key: the ending of the labels' files, or the name in the JSON.

    Raises:
      BadInput: a tar cannot be read, or an example lacks an image or a label.
    """
    name = f"webdataset:{path}"
    parts, files = {}, _find(path)
    for split, several in files.items():
        entries, labels = [], []
        with ThreadPoolExecutor(_CONNECTIONS if storage.is_remote(path) else 1) as pool:
            listed = zip(map(_place, several), pool.map(_index, several), strict=True)
            for file, sample in ((file, sample) for file, found in listed for sample in found):
                ending, offset, size = _image(file, sample, image_key)
                labels.append(_label(file, sample, label_key))
                entries.append(
                    Entry(f"{sample['key']}.{ending}", split, labels[-1], file, offset, size)
                )
        if not entries:
            raise errors.BadInput(f"{name}: the tars of split {split} contain no examples")
        own = [entry.key for entry in entries]
        parts[split] = Part(names(split, labels, own), labels, Files(entries))
    every = tuple(Path(_place(file)) for several in files.values() for file in several)
    return Collection(name, parts, files=every)


def _find(path: str) -> dict[str, list[Path]] | dict[str, list[storage.FileInfo]]:
    find = split_files.find_in_bucket if storage.is_remote(path) else split_files.find
    return find("webdataset", path, _ENDING)


def _place(file: Path | storage.FileInfo) -> str:
    return str(file) if isinstance(file, Path) else file.path


def _image(file: str, sample: dict[str, Any], key: str) -> tuple[str, int, int]:
    images = sample["images"]
    found = [key] if key else list(images)
    if len(found) != 1 or found[0] not in images:
        raise errors.BadInput(
            f"{file}, example {sample['key']!r}: expected one image, with the ending "
            f"config.input.image_key={key!r}, but it has {', '.join(sample['endings'])}"
        )
    return found[0], *images[found[0]]


def _label(file: str, sample: dict[str, Any], key: str) -> str | tuple[str, ...]:
    fields = sample["fields"]
    found = [key] if key else [field for field in _LABEL if field in fields][:1]
    if not found or found[0] not in fields:
        raise errors.BadInput(
            f"{file}, example {sample['key']!r}: no label {key or 'cls'!r}. It has the files "
            f"{', '.join(sample['endings'])} and the fields {', '.join(fields) or 'none'}: set "
            f"config.input.label_key to one of these. Tars of <class>/x.jpg are prepared: "
            f"config.prepare.source=tar:{file}"
        )
    value, *others = fields[found[0]]
    if others:
        raise errors.BadInput(
            f"{file}, example {sample['key']!r}: several labels {found[0]!r} in the files "
            f"{', '.join(sample['endings'])}: {errors.shown([*map(str, (value, *others))])}. Set "
            f"config.input.label_key to a field that only one of them has"
        )
    return tuple(map(str, value)) if isinstance(value, list) else str(value)


def _index(file: Path | storage.FileInfo) -> list[dict[str, Any]]:
    """The examples of a tar, from the cache or by reading it."""
    place = _place(file)
    if isinstance(file, Path):
        status = file.stat()
        version, opens = (place, status.st_size, status.st_mtime_ns), lambda: file.open("rb")
    else:
        version, opens = tuple(file), lambda: storage.open_object(file)

    def find() -> list[dict[str, Any]]:
        return list(_samples(place, opens))

    return storage.remembered("tars", (_FORMAT, *version), f"listing {place}", find)


def _samples(file: str, opens: Callable[[], BinaryIO]) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    seen = set()
    with (
        tar_members.readable(file),
        opens() as stream,
        tarfile.open(fileobj=stream, mode="r:", tarinfo=tar_members.Strict) as tar,
    ):
        for member in tar_members.each(file, tar):
            name = tar_members.member_name(file, member)
            folder, slash, last = name.rpartition("/")
            if is_hidden(last) or last.startswith("_"):  # such as __index__
                continue
            stem, _, ending = last.partition(".")
            key, ending = folder + slash + stem, ending.lower()
            if sample.get("key") != key:
                if sample:
                    yield sample
                if key in seen:
                    raise errors.BadInput(
                        f"{file}: the files of {key!r} are not next to each other, or it "
                        f"occurs twice: sort the members by name"
                    )
                seen.add(key)
                sample = {"key": key, "images": {}, "fields": {}, "endings": []}
            if ending in sample["endings"]:
                raise errors.BadInput(
                    f"{file}: two members {name!r}: give each example a name of its own"
                )
            sample["endings"].append(ending)
            if is_image(last):
                sample["images"][ending] = (member.offset_data, member.size)
            elif member.size <= _MOST_BYTES:
                stream.seek(member.offset_data)  # the next member is sought by its own place
                for field, value in _fields(ending, stream.read(member.size)).items():
                    values = sample["fields"].setdefault(field, [])
                    values += [value] * (str(value) not in map(str, values))
    if sample:
        yield sample


def _fields(ending: str, data: bytes) -> dict[str, Any]:
    """What may be a label: the text of a file, or the values in a JSON."""
    try:
        text = data.decode().strip()
        found = json.loads(text) if ending.split(".")[-1] == "json" else text
    except ValueError:
        return {}
    if not isinstance(found, dict):
        found = {ending: found}

    def is_label(value) -> bool:
        known = isinstance(value, int | str) and not isinstance(value, bool)
        return known and 0 < len(str(value)) <= _LONGEST

    def may_be(value) -> bool:
        several = value if isinstance(value, list) else [value]
        return len(several) <= _LONGEST and all(map(is_label, several))

    return {name: value for name, value in found.items() if may_be(value)}
