"""The table of evaluators, for `config.evaluators.<name>.type`, and the loop that runs one."""

from collections.abc import Callable, Iterable
from typing import Protocol

import jax

from mixer.batch import Batch


class Evaluator(Protocol):
    """What an evaluator implements.

    `update` is a jittable function of (params, batch) whose results have `merge`, as those of
    `clu.metrics`. `summarize` turns the merged result of all batches, on the host, into {name:
    number}, with names such as "top1". The optional attributes `higher_is_better` and
    `lower_is_better`, tuples of names, list the metrics by which `config.best` can choose a
    checkpoint. The optional attribute
    `multi_label = True` accepts labels [B, L]; otherwise data with several labels is refused. The
    optional attribute `takes` lists all kinds of labels that are accepted: "class", "classes" and,
    as vectors [B, K], "distribution", "probabilities", "values". One that takes "values" measures
    models trained with the loss `mse`; the others get logits. The optional method `named` returns
    the evaluator for the given names of the outputs. The optional method `answer`, like `update`
    but for each row too, is that of `Classification` and `Regression`.
    """

    def update(self, params, batch: Batch): ...

    def summarize(self, collection) -> dict[str, float]: ...


def takes(evaluator: Evaluator) -> tuple[str, ...]:
    """The kinds of labels that an evaluator accepts."""
    classes = ("class", "classes") if getattr(evaluator, "multi_label", False) else ("class",)
    return getattr(evaluator, "takes", classes)


def directions(evaluator: Evaluator) -> dict[str, bool]:
    """Whether higher is better, for each metric by which a checkpoint can be chosen."""
    higher = getattr(evaluator, "higher_is_better", ())
    lower = getattr(evaluator, "lower_is_better", ())
    return dict.fromkeys(higher, True) | dict.fromkeys(lower, False)


# apply(params, uint8 images) -> logits, num_classes -> evaluator
Factory = Callable[[Callable, int], Evaluator]
EVALUATORS: dict[str, Factory] = {}


def register_evaluator(name: str, factory: Factory | None = None):
    """Makes `factory(apply, num_classes)` available to configs. Without `factory`, a decorator.

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
    """Evaluates all batches; returns None if `interrupted()` returned True meanwhile.

    `update` is `evaluator.update`, compiled.
    """
    total = previous = None
    for batch in batches:
        part = update(params, batch)
        # At most two batches are on the devices, so that their memory does not fill with batches.
        jax.block_until_ready(previous)
        previous = part
        total = part if total is None else total.merge(part)
        if interrupted():
            return None
    return evaluator.summarize(jax.device_get(total))
