"""What a training drew for a row of a batch, and when it sees an example; told, not changed.

A row is made by the very code that training calls (`Rows`, `Chain`). Each transform is asked what
it will draw, with a copy of the generator, just before it draws.
"""

import copy
import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from mixer.data.decode import Encoded
from mixer.data.pipeline import Rows
from mixer.data.transforms import Transform, size_of


@dataclasses.dataclass
class Trace:
    """Looks on while the transforms are applied to an image.

    Attributes:
      window: (top, left, height, width) of the part of the source's upright image that is seen, in
        its pixels; not integers where a crop follows a resize. What `operations` move is not
        followed.
      flipped: whether left and right are exchanged.
      operations: such as "rotate(degrees=-30.0)"; "NAME(?)" of a transform that draws and does not
        say what.
    """

    window: tuple[float, float, float, float]
    flipped: bool = False
    operations: list[str] = dataclasses.field(default_factory=list)

    def apply(self, transform: Transform, image: Any, rng: np.random.Generator) -> np.ndarray:
        """`transform(image, rng)`, after noting what it will draw."""
        if hasattr(transform, "drawn"):
            self._note(transform.drawn(image, copy.deepcopy(rng)), size_of(image))
            return transform(image, rng)
        before = str(rng.bit_generator.state)
        made = transform(image, rng)
        if str(rng.bit_generator.state) != before:
            name = getattr(transform, "__name__", type(transform).__name__)
            self.operations.append(f"{name}(?)")
        return made

    def _note(self, drawn: dict[str, Any], size: tuple[int, int]) -> None:
        if window := drawn.get("window"):
            self._crop(*window, *size)
        self.flipped ^= drawn.get("flipped", False)
        self.operations += drawn.get("operations", [])

    def _crop(self, top: int, left: int, tall: int, wide: int, height: int, width: int) -> None:
        """A window of an image of height x width that shows what is seen by now."""
        if self.flipped:
            left = width - left - wide
        above, beside, seen_tall, seen_wide = self.window
        down, along = seen_tall / height, seen_wide / width
        self.window = above + top * down, beside + left * along, tall * down, wide * along


class _Following:
    """A chain that keeps the trace of the last image."""

    def __init__(self, chain: Transform):
        self._chain = chain
        self.trace: Trace | None = None

    def __call__(self, image: np.ndarray | Encoded, rng: np.random.Generator) -> np.ndarray:
        self.trace = Trace((0, 0, *size_of(image)))
        return self._chain(image, rng, self.trace.apply)


@dataclasses.dataclass(frozen=True)
class Redrawn:
    """A row of a training's batch.

    Attributes:
      count: the example counter g.
      meant: the example whose turn it was.
      index: the example that is there: another where that one, and perhaps more after it, cannot be
        read.
      image: uint8 [H, W, 3], as it enters the model.
      label: int32 [] or [L], as in `mixer.batch`.
    """

    count: int
    meant: int
    index: int
    image: np.ndarray
    label: np.ndarray
    trace: Trace


def redraw(rows: Rows, number: int) -> Redrawn:
    """Makes row `number` (step * rows a batch + row) of a training as it was made then.

    Raises:
      BadExample: it cannot be read, and such are not skipped.
    """
    following = _Following(rows.transform)
    count, meant = rows.find(number)
    made = dataclasses.replace(rows, transform=following, ahead=0)(number)
    index = meant
    for _ in range(int(made["skipped"])):
        index = rows.order.after(index)
    return Redrawn(count, meant, index, made["image"], made["label"], following.trace)


def when_seen(
    rows: Rows, wanted: Collection[int], stop: int, report: Callable[[int], None]
) -> dict[int, list[int]]:
    """By example the counters g < `stop` at which it is seen, ascending; none of an unreadable one.

    Where unreadable examples are skipped, those count at which one stands in for them.

    Args:
      report: is called with the number of counters done, now and then.
    """
    seen = {index: [] for index in wanted}
    turns = {turn: index for index in wanted for turn in _turns(rows, index)}
    for count in range(stop):
        index = turns.get(rows.order[count])
        if index is not None:
            seen[index].append(count)
        if count % 2**16 == 0:
            report(count)
    return seen


def _turns(rows: Rows, index: int) -> list[int]:
    """The examples at whose turn this one is seen: its own, and those that it stands in for."""
    if not rows.skip_bad:
        return [index]
    if not rows.usable(index):
        return []
    turns, before = [index], rows.order.before(index)
    while before != index and not rows.usable(before):
        turns.append(before)
        before = rows.order.before(before)
    return turns
