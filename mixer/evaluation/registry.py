"""Evaluators by name, for `config.evaluators.<name>.type`."""

from collections.abc import Callable, Iterable
from typing import Protocol

import jax

from mixer.batch import Batch


class Evaluator(Protocol):
    """`update` is a jittable function of (params, batch); its results merge, as `clu.metrics` do.

    `summarize` turns the merged result of all batches, on the host, into {name: number}, names
    such as "top1". An attribute `higher_is_better`, a tuple of names, says by which of them
    `config.best` may choose. `multi_label = True` says that a batch's labels may be [B, L]; without
    it data with several labels an image are refused.
    """

    def update(self, params, batch: Batch): ...

    def summarize(self, collection) -> dict[str, float]: ...


# apply(params, uint8 images) -> logits, num_classes -> evaluator
Factory = Callable[[Callable, int], Evaluator]
EVALUATORS: dict[str, Factory] = {}


def register_evaluator(name: str, factory: Factory | None = None):
    """Makes `factory(apply, num_classes)` available to configs; a decorator without `factory`.

    `apply(params, images)` takes uint8 images [N, H, W, 3] and returns float32 logits
    [N, num_classes].
    """
    if factory is None:
        return lambda decorated: register_evaluator(name, decorated)
    EVALUATORS[name] = factory
    return factory


def evaluate(
    evaluator: Evaluator,
    update: Callable,
    params,
    batches: Iterable[Batch],
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Runs over all batches; None if `interrupted()` became true on the way.

    `update` is `evaluator.update`, compiled.
    """
    total = before = None
    for batch in batches:
        part = update(params, batch)
        # At most two batches are on their way: the device's memory is not the reader's buffer.
        jax.block_until_ready(before)
        before = part
        total = part if total is None else total.merge(part)
        if interrupted():
            return None
    return evaluator.summarize(jax.device_get(total))
