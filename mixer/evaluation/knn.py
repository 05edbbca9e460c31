"""Nearest neighbours on a model's features: the weighted vote of Wu et al. 2018 (section 3.4).

The k training examples with the largest cosine similarity s to a test example vote for their class,
each with the weight exp(s / temperature). DINO (Caron et al. 2021) measures so, at 0.07 and with k
= 10, 20, 100, 200. The search is exact.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixer.evaluation.features import Features, put

# ImageNet, as there. Triples (TFDS name, training split, test split).
DATASETS = (("imagenet2012", "train", "validation"),)
_SIMILARITIES = 2**26  # float32 numbers on a device at a time
_SCORES = 2**24  # float64 numbers on the host at a time
_MOST_AT_A_TIME = 1024  # test examples


def accuracies(
    mesh: Mesh,
    neighbors: Sequence[int],
    temperature: float,
    train: Features,
    test: Features,
    num_classes: int,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[int, float] | None:
    """For each k of `neighbors` the accuracy on all of `test`.

    All training examples vote if there are fewer than k. Returns None if `interrupted()` returned
    True meanwhile. All processes must call it, with the same features.

    Args:
      mesh: the training features are sharded over all its devices.
    """
    hits, most = dict.fromkeys(neighbors, 0), min(max(neighbors), len(train.labels))
    find = _finder(mesh, _unit(train.features), most, num_classes)
    for rows, similarity, places in find(_unit(test.features)):
        voters = train.labels[places]
        for k in neighbors:
            predicted = vote(similarity[:, :k], voters[:, :k], temperature, num_classes)
            hits[k] += int((predicted == test.labels[rows]).sum())
        if interrupted():
            return None
    return {k: count / len(test.labels) for k, count in hits.items()}


def vote(
    similarity: np.ndarray, labels: np.ndarray, temperature: float, num_classes: int
) -> np.ndarray:
    """The classes with the largest sum of weights, int [N]; of equal ones the first.

    Args:
      similarity: [N, k], of the neighbours, the nearest first.
      labels: int [N, k], their classes.
    """
    # Less the largest similarity, so that no temperature overflows.
    weights = np.exp((similarity - similarity[:, :1]).astype(np.float64) / temperature)
    cells = np.arange(len(labels))[:, None] * num_classes + labels
    sums = np.bincount(cells.ravel(), weights.ravel(), len(labels) * num_classes)
    return sums.reshape(-1, num_classes).argmax(axis=1)


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays as it is."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _finder(mesh: Mesh, bank: np.ndarray, most: int, num_classes: int) -> Callable:
    """Puts the bank [N, D] on the devices; see `find`."""
    each = -(-len(bank) // mesh.size)
    padded = np.zeros((each * mesh.size, bank.shape[1]), np.float32)
    padded[: len(bank)] = bank
    there = np.arange(len(padded)) < len(bank)
    sharded = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    bank, there = (put(array, sharded) for array in (padded, there))
    nearest = _nearest(mesh, most)
    size = min(_MOST_AT_A_TIME, _SIMILARITIES // each, _SCORES // num_classes)

    def find(queries: np.ndarray):
        """Yields (rows, similarity [n, most], places in the bank [n, most]) of test examples."""
        chunk = max(1, min(size, len(queries)))
        for first in range(0, len(queries), chunk):
            rows = np.arange(first, min(first + chunk, len(queries)))
            part = np.zeros((chunk, queries.shape[1]), np.float32)
            part[: len(rows)] = queries[rows]
            found = nearest(bank, there, put(part, NamedSharding(mesh, PartitionSpec())))
            similarity, places = (array[: len(rows)] for array in jax.device_get(found))
            yield rows, similarity, places

    return find


@functools.cache
def _nearest(mesh: Mesh, most: int) -> Callable:
    """Compiles the search: each device's nearest, and the nearest of these; ties by place."""
    axes, whole = mesh.axis_names, PartitionSpec()

    def search(bank, there, queries):
        similarity = jnp.matmul(queries, bank.T, precision=jax.lax.Precision.HIGHEST)
        similarity = jnp.where(there, similarity, -jnp.inf)
        found, places = jax.lax.top_k(similarity, min(most, len(bank)))
        places += jax.lax.axis_index(axes) * len(bank)
        found, places = (
            jax.lax.all_gather(array, axes, axis=1, tiled=True) for array in (found, places)
        )
        best, order = jax.lax.top_k(found, most)
        return best, jnp.take_along_axis(places, order, axis=1)

    parts = PartitionSpec(axes)
    return jax.jit(
        jax.shard_map(
            search,
            mesh=mesh,
            in_specs=(parts, parts, whole),
            out_specs=whole,
            check_vma=False,  # it does not know that gathered arrays are the same everywhere
        )
    )
