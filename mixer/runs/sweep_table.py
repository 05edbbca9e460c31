"""What a sweep prints at its end."""

from collections.abc import Sequence
from typing import Any


def table(
    choice: dict[str, Any],
    found: Sequence[dict],
    metrics: dict[str, float | None],
    *,
    best: str,
    tested: str,
    higher_is_better: bool,
) -> str:
    """The combinations with what chose among them, and the seeds with what they reached.

    Args:
      choice: the content of choice.json.
      found: the results.json of the final trainings.
      metrics: their means and standard deviations.
      best: the metric by which the combination was chosen; `tested`: the one that is reported.
    """
    names = [name for name in choice if name != best]
    chosen = [choice[name] for name in names]
    head = best if higher_is_better else f"{best} (lower is better)"
    lines = [_row(["learning rate" if n == "learning_rate" else n for n in names], head)]
    for *values, value in choice[best]:
        shown = "diverged" if value is None else f"{value:.4f}"
        lines.append(_row(values, f"{shown}{' *' * (values == chosen)}", names))
    lines.append(_row(["seed"], tested))
    lines += [_row([each["seed"]], f"{each['metrics'][tested]:.4f}") for each in found]
    deviation = metrics[f"{tested}_std"]
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return "\n".join([*lines, _row(["mean"], f"{metrics[tested]:.4f}{spread}")])


def of_seeds(found: Sequence[dict], metrics: dict[str, float | None]) -> str:
    """The metrics of trainings that differ in the seed: mean, deviation, and each in turn."""
    names = [name for name in metrics if f"{name}_std" in metrics]
    width = max(15, *map(len, names))
    lines = [f"{'seed':<{width}} {', '.join(str(one['seed']) for one in found)}"]
    for name in names:
        deviation = metrics[f"{name}_std"]
        spread = "" if deviation is None else f" ± {deviation:.4f}"
        each = ", ".join(f"{one['metrics'][name]:.4f}" for one in found)
        lines.append(f"{name:<{width}} {metrics[name]:.4f}{spread}   ({each})")
    return "\n".join(lines)


def _row(cells: Sequence[Any], last: str, heads: Sequence[str] = ()) -> str:
    """A line of the table: `cells` in the widths of `heads`, then the measured value."""
    texts = [f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells]
    widths = [max(15, len(head)) for head in heads or texts]
    return " ".join([*(f"{t:<{w}}" for t, w in zip(texts, widths, strict=True)), last])
