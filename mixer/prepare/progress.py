"""Shows progress: a bar on a terminal, otherwise a line every few seconds."""

import sys
import time

_SECONDS = 10  # between lines


class Progress:
    """A context manager that counts and shows images and bytes.

    Args:
      what: the activity, such as "writing".
      total: number of images; None if not known yet.
    """

    def __init__(self, what: str, total: int | None = None):
        self._what, self._total = what, total
        self._count = self._bytes = self._shown = 0
        self._begin = self._said = time.monotonic()
        self._bar = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and self._total != 0:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, desc=self._what, unit=" images", unit_scale=True)
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._count > self._shown:
            self._say()

    def add(self, images: int, size: int) -> None:
        """Adds images just done, and their bytes."""
        self._count, self._bytes = self._count + images, self._bytes + size
        if self._bar is not None:
            self._bar.update(images)
        elif time.monotonic() - self._said > _SECONDS:
            self._say()

    def _say(self) -> None:
        self._said, self._shown = time.monotonic(), self._count
        seconds = max(self._said - self._begin, 1e-9)
        of = f"/{self._total:,}" if self._total else ""
        size = f"  {self._bytes / 1e6:,.0f} MB" if self._bytes else ""
        rate = f"{self._count / seconds:,.0f} images/s"
        print(f"{self._what} {self._count:,}{of} images{size}  {rate}", flush=True)
