"""One shard: its images read, written in hash order, and read back."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from mixer import storage
from mixer.data.sources import records, splits
from mixer.prepare import plan as plans
from mixer.prepare.against import Known
from mixer.prepare.entry import Entry, Unusable, read

# Where things lie in the work folder.
PLAN, LISTS, KNOWN, DONE, PARTS, SHARDS = "plan.json", "lists", "known", "done", "parts", "dataset"


def features(plan: plans.Plan) -> tfds.features.FeaturesDict:
    """`image`, `label` (or `labels`, a list) and `file_name`, as TFDS has them for ImageNet."""
    label = tfds.features.ClassLabel(names=plan.classes)
    labels = {"labels": tfds.features.Sequence(label)} if plan.multi_label else {"label": label}
    image = tfds.features.Image(encoding_format=plan.encoding or None)
    return tfds.features.FeaturesDict({"image": image, **labels, "file_name": tfds.features.Text()})


class Writer:
    """Writes any shard of a work folder."""

    def __init__(self, work: Path, name: str):
        self._work, self._name = work, name
        self._plan = plans.Plan.from_json(json.loads((work / PLAN).read_text())["plan"])
        self._features = features(self._plan)
        self._label_of = {name: i for i, name in enumerate(self._plan.classes)}
        self._known = Known(work / KNOWN)

    def write(self, split: str, number: int) -> dict:
        """Makes the shard, or finds it made.

        Returns:
          file, split, number, records, bytes (of the records), size (of the file), sha256, removed
          (what equals a test example), failures (messages; then there is no shard).
        """
        shards = self._plan.splits[split].shards
        name = f"{self._name}-{split}.array_record-{number:05}-of-{shards:05}"
        final, done = self._work / SHARDS / name, self._work / DONE / f"{name}.json"
        # Also empty after a power cut.
        with contextlib.suppress(FileNotFoundError, ValueError):
            result = json.loads(done.read_text())
            if final.exists() and _sha256(final) == result["sha256"]:
                return result
        failures, removed = [], []
        images = self._images(split, number, failures, removed)
        part = self._work / PARTS / f"{name}.{os.getpid()}"
        result = {"file": name, "split": split, "number": number, "removed": removed}
        if failures:
            return result | {"failures": failures}
        with storage.naming(final):
            result |= records.write_shard(part, self._features, self._examples(images))
            result["sha256"] = _sha256(part)
            part.rename(final)
        with storage.write_whole(done) as file:
            file.write(json.dumps(result).encode())
        return result

    def _images(self, split, number, failures, removed) -> list[tuple[Entry, bytes]]:
        """The shard's images in hash order, read in the order in which they lie on the disk."""
        entries = list(plans.entries(self._work / LISTS, split, number))
        images = {}
        for i in sorted(range(len(entries)), key=lambda i: (entries[i].file, entries[i].offset)):
            entry = entries[i]
            try:
                image = read(entry)
                # One that is not trained on may well be the very set that is compared with.
                held_out = splits.meaning(split) in (splits.VALIDATION, splits.TEST)
                compared = self._known and not held_out
                same = self._known.match(image) if compared else None
            except (Unusable, ValueError) as error:
                failures.append(f"{entry.key!r}: {error}")
                continue
            if same:
                removed.append({"file_name": entry.key, "split": split} | same)
            else:
                images[i] = image
        removed.sort(key=lambda line: line["file_name"])
        return [(entries[i], images[i]) for i in sorted(images)]

    def _examples(self, images: list[tuple[Entry, bytes]]) -> Iterator[dict]:
        for entry, image in images:
            example = {"image": io.BytesIO(image), "file_name": os.fsencode(entry.key)}
            if self._plan.multi_label:
                names = (entry.labels,) if isinstance(entry.labels, str) else entry.labels
                yield example | {"labels": [self._label(name) for name in names]}
            else:
                yield example | {"label": self._label(entry.labels)}

    def _label(self, name: str) -> int:
        # Integer labels may be written 007.
        return self._label_of[name] if name in self._label_of else int(name)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
