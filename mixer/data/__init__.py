"""From files to batches. Nothing here imports JAX: Grain's worker processes load these modules."""

# Imported because they register transforms.
from mixer.data import permutations as _permutations  # noqa: F401
from mixer.data import randaugment as _randaugment  # noqa: F401
