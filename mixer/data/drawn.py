"""Replays a training row with the random draws behind it, and finds when an example is seen.

Rows are made by the code that training calls (`Rows`, `Chain`). Just before a transform draws, its
`drawn` is called with a copy of the generator, so recording changes nothing.
"""

import copy
import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from mixer.data.decode import Encoded
from mixer.data.pipeline import Rows
from mixer.data.transforms import Chain, Transform, size_of


@dataclasses.dataclass
class Trace:
    """Records what the transforms draw for one image.

    Attributes:
      window: (top, left, height, width) of the visible part of the source's upright image, in its
        pixels; not integers if a crop follows a resize. It does not track what `operations` move.
      flipped: whether left and right are exchanged.
      operations: such as "rotate(degrees=-30.0)"; "NAME(?)" for a transform that draws without
        reporting what.
    """

    window: tuple[float, float, float, float]
    flipped: bool = False
    operations: list[str] = dataclasses.field(default_factory=list)

    def apply(self, transform: Transform, image: Any, rng: np.random.Generator) -> np.ndarray:
        """Returns `transform(image, rng)` and records what it draws."""
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
        """Narrows `self.window` by a crop of the current image, which is height x width."""
        if self.flipped:
            left = width - left - wide
        above, beside, seen_tall, seen_wide = self.window
        down, along = seen_tall / height, seen_wide / width
        self.window = above + top * down, beside + left * along, tall * down, wide * along


class _TracingChain:
    """A chain that keeps the `Trace` of its last image."""

    def __init__(self, chain: Transform):
        self._chain = chain
        self.trace: Trace | None = None

    def __call__(self, image: np.ndarray | Encoded, rng: np.random.Generator) -> np.ndarray:
        self.trace = Trace((0, 0, *size_of(image)))
        return self._chain(image, rng, self.trace.apply)


@dataclasses.dataclass(frozen=True)
class Redrawn:
    """One row of a training batch.

    Attributes:
      count: the example counter g.
      meant: the example that the order selects.
      index: the example that was used; it differs from `meant` if unreadable ones were skipped.
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
    """Makes row `number` (step * rows per batch + row) exactly as training made it.

    Raises:
      BadExample: the example cannot be read, and `rows` does not skip such examples.
    """
    tracing = _TracingChain(rows.transform)
    count, meant = rows.find(number)
    made = dataclasses.replace(rows, transform=tracing, ahead=0)(number)
    index = meant
    for _ in range(int(made["skipped"])):
        index = rows.order.after(index)
    return Redrawn(count, meant, index, made["image"], made["label"], tracing.trace)


def when_seen(
    rows: Rows, wanted: Collection[int], stop: int, report: Callable[[int], None]
) -> dict[int, list[int]]:
    """{example: the counters g < `stop` at which it is seen, ascending}.

    If unreadable examples are skipped, this includes the counters at which an example replaces
    them; an unreadable example has none.

    Args:
      report: called now and then with the number of counters done.
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
    """The examples at whose turn this one is seen: itself, and those that it replaces."""
    if not rows.skip_bad:
        return [index]
    if rows.unusable(index):
        return []
    turns, before = [index], rows.order.before(index)
    while before != index and rows.unusable(before):
        turns.append(before)
        before = rows.order.before(before)
    return turns


class _DrawnError(Exception):
    pass


class _NoGenerator:
    """Stands for a random generator, to find out whether a transform uses it."""

    def __getattr__(self, name: str) -> Any:
        raise _DrawnError


def draws(chain: Chain, image_size: tuple[int, int]) -> bool:
    """Whether a chain of transforms draws at random."""
    side = 2 * max(image_size)
    try:
        chain(np.zeros((side, side, 3), np.uint8), _NoGenerator())
    except _DrawnError:
        return True
    return False
