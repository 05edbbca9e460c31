"""When a training sees an example: the order of the examples, walked from the first to the last."""

from collections.abc import Callable, Collection

from mixer.data.pipeline import Rows


def counters(
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
