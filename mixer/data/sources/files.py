"""Image files that were listed one by one, as a source without labels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class FilesSource:
    """The files at these paths, in this order; see `mixer.data.sources`."""

    paths: Sequence[str]
    name: str = "config.images"
    split: str = "all"
    classes: Sequence[str] = ()
    max_labels: int = 1

    @property
    def identity(self) -> tuple[str, ...]:
        """The paths: their order counts."""
        return tuple(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": Path(self.paths[index]).read_bytes(), "label": ()}

    def where(self, index: int) -> str:
        """The path."""
        return self.paths[index]
