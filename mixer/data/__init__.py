"""From files to batches. Nothing here imports JAX: Grain's worker processes load these modules."""

# They register transforms.
from mixer.data import permutations as _permutations  # noqa: F401
from mixer.data import randaugment as _randaugment  # noqa: F401
