"""`folder:PATH`: images as the data source of the same name lists them."""

from collections.abc import Iterator
from pathlib import Path

from mixer.data.folder_source import folder_layout, image_files
from mixer.data.prepare.entry import Entry, Reader


class FolderReader(Reader):
    """PATH/<split>/<class>/**/*.jpg, or PATH/<class>/**/*.jpg for a single `train`."""

    def __init__(self, path: str):
        self._name, self._root = f"folder:{path}", Path(path).expanduser().absolute()
        self._places, self.classes = folder_layout(self._name, self._root)

    def _listed(self) -> Iterator[tuple[str, str, int]]:
        for split, place in self._places.items():
            for file, label in image_files(self._name, self._root, place, self.classes):
                yield split, file, label

    def files(self) -> Iterator[Path]:
        """Every image."""
        return (self._root / file for _, file, _ in self._listed())

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every image; its key is the path below PATH."""
        for split, file, label in self._listed():
            split = "" if self._places[split] == self._root else split
            yield Entry(file, split, self.classes[label], str(self._root / file))
