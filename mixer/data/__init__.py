"""From files to batches. Nothing here imports JAX: Grain's worker processes load these modules."""

from mixer.data import randaugment as _registers_its_transform  # noqa: F401
