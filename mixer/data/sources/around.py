"""A source around another one, which answers for all that this one does not have itself."""

from typing import Any

from mixer.data.sources import Source


class Around:
    """Has `source`; a class derived from it changes how its examples are read."""

    source: Source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "source":  # not set yet, during unpickling
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[index]
