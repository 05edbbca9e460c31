"""How often training sees each example: mixtures, balanced classes; and how much a class counts."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from ml_collections import ConfigDict

from mixer import errors
from mixer.data import order
from mixer.data.order import Order
from mixer.data.row_group_order import RowGroups
from mixer.data.shares import ByClass, Mixed
from mixer.data.sources import Source, grouped, split_to_train_on
from mixer.data.sources.labels import labels_of
from mixer.data.sources.mixture import Mixture

_SHOWN = 5
BALANCED = "balanced"
_SAMPLINGS = ("examples", "classes")
# Shares must be exact within so many images.
_LONGEST_WINDOW = 1000


def mixture(config: ConfigDict, first: Source, opens: Callable[[str, str], Source]) -> Source:
    """`first` with what `config.input.mixture` adds; `first` itself if that is empty.

    Args:
      opens: (dataset, split) -> its source.

    Raises:
      BadInput: malformed shares, or data sets that do not fit together.
    """
    asked = config.input.mixture
    if not asked:
        return first
    named, shares = zip(*map(_added, _triples(asked)), strict=True)
    shares = (1 - sum(shares), *shares)
    if shares[0] <= 0:
        raise errors.BadInput(
            f"config.input.mixture={asked}: the shares sum to {float(1 - shares[0]):g}, which "
            f"leaves none for {config.dataset}: expected a sum below 1"
        )
    window = math.lcm(*(share.denominator for share in shares))
    if window > _LONGEST_WINDOW:
        raise errors.BadInput(
            f"config.input.mixture={asked}: these shares are exact in {window:,} images only: "
            f"expected at most three decimals"
        )
    parts = [first, *(opens(*name) for name in named)]
    ways = {getattr(part, "published", False) for part in parts}
    if len(ways) > 1 and config.input.decoding == "auto":
        raise errors.BadInput(
            "config.input.decoding=auto would decode one of the mixture's data sets as TensorFlow "
            "does and another upright (docs/data.md): set it to tensorflow or upright"
        )
    return Mixture.of(parts, [int(share * window) for share in shares])


_FORM = "expected ((DATASET, SPLIT, SHARE), ...) such as (('folder:more', 'train', 0.3),)"


def _triples(asked) -> list:
    if len(asked) == 3 and isinstance(asked[0], str):
        raise errors.BadInput(
            f"config.input.mixture={asked}: {_FORM}. A comma is missing after the inner bracket"
        )
    return list(asked)


def _added(entry) -> tuple[tuple[str, str], Fraction]:
    """((dataset, split), share) of an entry of `config.input.mixture`."""
    try:
        dataset, split, share = entry
        exact = Fraction(str(share))  # 0.3 is three tenths
        if not (isinstance(dataset, str) and isinstance(split, str) and 0 < exact < 1):
            raise ValueError
    except (TypeError, ValueError):
        raise errors.BadInput(
            f"config.input.mixture: {entry!r}: {_FORM}, with shares between 0 and 1"
        ) from None
    return (dataset, split_to_train_on(dataset) if split == "auto" else split), exact


def order_of(config: ConfigDict, source: Source, batch_size: int) -> Order:
    """The order of the training examples: `config.input.shuffle`, `sampling` and the mixture.

    Raises:
      BadInput: they are invalid, or do not go together.
    """
    shuffle, sampling, seed = config.input.shuffle, config.input.sampling, config.seed
    if sampling not in _SAMPLINGS:
        raise errors.unknown("config.input.sampling", sampling, _SAMPLINGS)

    def row_groups(window: int = 4, lanes: int = 1) -> RowGroups:
        groups = grouped.row_groups(source)
        if groups is None:
            raise ValueError(f"{config.dataset} is not a data set of Parquet files alone")
        return RowGroups(*groups, seed, batch_size, window, lanes)

    def parsed(size: int, seed: int) -> Order:
        more = {"row_groups": row_groups}
        return order.parse(shuffle, examples=size, seed=seed, batch_size=batch_size, more=more)

    plain = parsed(len(source), seed)
    special = {
        f"config.input.sampling={sampling}": sampling != "examples",
        "config.input.mixture": isinstance(source, Mixture),
    }
    used = [key for key, is_used in special.items() if is_used]
    if len(used) > 1:
        raise errors.BadInput(f"{' and '.join(used)} do not go together: choose one")
    if used and not isinstance(plain, order.Full):
        raise errors.BadInput(
            f"{used[0]} reads single images in an order of its own: set config.input.shuffle=full, "
            f"not {shuffle}"
        )
    if isinstance(source, Mixture):
        sizes = [len(part) for part in source.parts]
        orders = [parsed(size, order.draw(seed, 3, part)) for part, size in enumerate(sizes)]
        return Mixed(orders, sizes, source.counts, seed)
    if sampling == "classes":
        return ByClass(labels_of(source, used[0]), seed)
    return plain


def class_weights(config: ConfigDict, source: Source) -> np.ndarray | None:
    """`config.class_weights` as float32 [K], with mean 1 over the training examples.

    Returns:
      None if all examples have the same weight. The weight of a class without examples is 1.

    Raises:
      BadInput: neither `balanced` nor K numbers, or the labels are not known.
    """
    asked = config.class_weights
    if not asked:
        return None
    key = f"config.class_weights={asked!r}"
    shares = _shares(config, source, labels_of(source, key))
    weights = np.ones(len(shares))
    there = shares > 0
    if asked == BALANCED and config.input.sampling == "classes":
        raise errors.BadInput(
            f"{key}: config.input.sampling=classes already shows each class equally often: leave "
            f"one of them out"
        )
    if asked == BALANCED:
        weights[there] = 1 / (shares[there] * there.sum())
    else:
        given = _numbers(key, asked, source)
        weights[there] = given[there] / (given * shares).sum()
    print(f"class weights: {_shown(weights, source.classes, there)}", flush=True)
    return weights.astype(np.float32)


def _shares(config: ConfigDict, source: Source, labels: np.ndarray) -> np.ndarray:
    """The share of each class in what training sees, float [K]."""
    each = source.frequencies() if isinstance(source, Mixture) else None
    found = np.bincount(labels, each, minlength=len(source.classes))
    if config.input.sampling == "classes":
        found = found > 0
    return found / found.sum()


def _numbers(key: str, text: str, source: Source) -> np.ndarray:
    expected = (
        f"expected balanced, or {len(source.classes)} numbers above 0 with commas between them, in "
        f"the order of the classes: {errors.shown(source.classes)}"
    )
    try:
        given = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise errors.BadInput(f"{key}: {expected}") from None
    if len(given) != len(source.classes):
        raise errors.BadInput(f"{key} has {len(given)} numbers: {expected}")
    if not (np.isfinite(given) & (given > 0)).all():
        raise errors.BadInput(f"{key}: {expected}")
    return given


def _shown(weights: np.ndarray, classes, there: np.ndarray) -> str:
    """The weights by class, the largest and smallest of many."""
    order = np.flatnonzero(there)
    if len(order) > 2 * _SHOWN:
        order = order[np.argsort(-weights[order], kind="stable")]
        order = [*order[:_SHOWN], None, *order[-_SHOWN:]]
    parts = ["..." if i is None else f"{classes[i]} {weights[i]:.3g}" for i in order]
    return ", ".join(parts) + "; their mean over what is trained on is 1"
