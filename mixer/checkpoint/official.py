"""Parameters as one .npz file under the names of the paper's release: the tree's own names."""

import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mixer import errors


def save_pretrained(path: str, params: dict[str, Any], model) -> None:
    """Writes parameters to `path`, which ends in .npz.

    Args:
      path: the file; it appears complete or not at all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for, checked against them.

    Raises:
      BadInput: another ending, or parameters with other names than the model's.
    """
    file = Path(path).expanduser()
    if file.suffix != ".npz":
        raise errors.BadInput(f"cannot save to {str(path)!r}: expected a name ending in .npz")
    names = {"stem", "pre_head_layer_norm", *(f"MixerBlock_{i}" for i in range(model.num_blocks))}
    names |= {"head"} if model.num_classes else set()
    if set(params) != names:
        raise errors.BadInput(
            f"the parameters hold {sorted(params)}, the model needs {sorted(names)}"
        )
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    beside = file.with_name(f".{file.name}.incomplete")
    with beside.open("wb") as stream:
        np.savez(stream, **flat)
    beside.replace(file)


def read_npz(path: str) -> dict[str, Any]:
    """Reads such a file into a nested dict of NumPy arrays; pickles are refused.

    Raises:
      BadInput: no such file, a damaged one, or one with pickled objects.
    """
    try:
        with (
            Path(path).expanduser().open("rb") as stream,
            np.load(stream, allow_pickle=False) as file,
        ):
            return traverse_util.unflatten_dict({name: file[name] for name in file}, sep="/")
    except FileNotFoundError:
        raise errors.BadInput(f"{str(path)!r}: there is no such file") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise errors.BadInput(f"{str(path)!r} is no readable .npz file: {error}") from None
