"""TFDS's split notation, for whatever has splits."""

import tensorflow_datasets as tfds

from mixer import errors


def absolute_ranges(dataset: str, split: str, sizes: dict[str, int]) -> list[tuple[str, slice]]:
    """TFDS's split notation -> [(split's name, slice)]."""
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except ValueError as error:
        have = ", ".join(f"{name} ({size:,})" for name, size in sorted(sizes.items()))
        first = str(error).splitlines()[0]
        raise errors.BadInput(f"split {split!r} of {dataset}: {first} It has {have}") from None
    return [(i.splitname, slice(i.from_, i.to)) for i in instructions]
