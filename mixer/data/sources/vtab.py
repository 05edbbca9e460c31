"""The source `vtab:TASK`: a task of VTAB-1k."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from mixer import errors
from mixer.data.sources import tfds_builder, vtab_tasks

# Features in which TFDS's builders store the name of an example's file.
_FILE_FEATURES = ("file_name", "filename", "image/file_name", "name")


@dataclasses.dataclass(frozen=True)
class VtabSource:
    """One of `vtab_tasks.TASKS`, read from the prepared TFDS dataset.

    Attributes:
      split: train800, val200, train1000 (both) or test.
    """

    name: str
    split: str
    classes: Sequence[str]
    records: Any
    task: vtab_tasks.Task
    published: ClassVar[bool] = True

    @classmethod
    def open(cls, name: str, split: str, data_dir: Path | str) -> "VtabSource":
        """See `sources.open_source`; `name` is the task's.

        Raises:
          BadInput: also if the number of examples or classes differs from the protocol's.
        """
        task = vtab_tasks.task(name)
        if split not in task.splits:
            raise errors.unknown(f"split of vtab:{name}", split, task.splits)
        with tfds_builder.open_prepared(task.builder, data_dir) as prepared:
            info = prepared.builder.info
            splits, classes = info.splits, task.rule.names(info.features)
            for part, size in task.sizes.items():
                found = splits[part].num_examples if part in splits else 0
                _expect(f"vtab:{name}", task.builder, f"examples in {part}", found, size)
            _expect(f"vtab:{name}", task.builder, "classes", len(classes), task.num_classes)
            records = prepared.records(task.splits[split])
        return cls(f"vtab:{name}", split, classes, records, task)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        return {"image": self.task.image(record), "label": self.task.rule(record)}

    def summary(self) -> str:
        """One line, with a note if the dataset's version is not the protocol's."""
        classes = f"{len(self.classes):,} classes: {errors.shown(self.classes)}"
        line = f"{self.name} {self.split}: {len(self):,} images, {classes}"
        if self.task.protocol_version:
            dataset, _, version = self.task.builder.partition(":")
            line += (
                f"; {dataset} is version {version} but {self.task.protocol_version} in the "
                f"protocol, whose published numbers may be for other images"
            )
        return line

    def where(self, index: int) -> str:
        """The task, the split, and the example by number and file."""
        record = self.records[index]
        file = next((record[name] for name in _FILE_FEATURES if name in record), None)
        named = f", file {os.fsdecode(file)}" if file else ""
        return f"dataset {self.name}, split {self.split}, example {index}{named}"


def _expect(task: str, builder: str, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise errors.BadInput(
            f"{task} is defined on a different {builder}: this one has {found:,} {what}, expected "
            f"{expected:,}. Prepare that version again"
        )
