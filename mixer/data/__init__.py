"""From files to batches. Nothing here imports JAX: Grain's worker processes load these modules."""

# Imported because they register transforms.
from mixer.data import autoaugment as _autoaugment  # noqa: F401
from mixer.data import color_jitter as _color_jitter  # noqa: F401
from mixer.data import permutations as _permutations  # noqa: F401
from mixer.data import randaugment as _randaugment  # noqa: F401
from mixer.data import random_erasing as _random_erasing  # noqa: F401
