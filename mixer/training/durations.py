"""Durations of the config, such as "300 epochs", as numbers of optimizer steps."""

import re

from mixer import errors

_FORM = re.compile(r"\s*([0-9][0-9_,]*\.?[0-9]*(?:e[0-9]+)?)\s*(steps?|epochs?|examples?)\s*")


def to_steps(duration: str, batch_size: int, examples: int, key: str) -> int:
    """Converts "10_000 steps", "300 epochs" or "1e9 examples" to a number of optimizer steps.

    Args:
      duration: a number and a unit.
      batch_size: size of the global batch.
      examples: size of the training set. Epochs become round(epochs * examples / batch_size)
        steps, at least one.
      key: config key to name in an error.

    Raises:
      BadInput: `duration` has another form, or is 2^31 steps or more.
    """
    match = _FORM.fullmatch(duration)
    if not match:
        raise errors.BadInput(
            f"config.{key}={duration!r} is not a duration: expected a number and a unit, such as "
            f"'10_000 steps', '300 epochs' or '1e9 examples'"
        )
    number = float(match[1].replace("_", "").replace(",", ""))
    per_step = {"s": 1, "ep": batch_size / examples, "ex": batch_size}
    unit = match[2][0] if match[2].startswith("s") else match[2][:2]
    steps = number / per_step[unit]
    if steps >= 2**31:  # the devices count steps in int32
        raise errors.BadInput(f"config.{key}={duration!r} is more than 2^31 steps")
    return max(round(steps), 1 if number else 0)


def is_due(step: int, every: int, total: int) -> bool:
    """Whether something that is done every `every` steps and after step `total` is due now."""
    return step > 0 and (step % every == 0 or step == total)
