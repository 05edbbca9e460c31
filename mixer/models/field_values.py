"""Checks the values of model fields; a field means the same in all families."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixer import errors

_COUNTS = (
    *("in_chans", "patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"),
    *("mlp_dim", "ffn_dim", "width", "widths", "num_heads", "block_size", "groups", "stages"),
    *("halo_size", "final_dim", "representation_size"),
)
_MAY_BE_NONE = ("num_classes", "halo_size", "final_dim", "representation_size")
_PROBABILITIES = ("dropout", "stochastic_depth")
_NUMBERS = ("value_ratio", "out_ratio", "layer_scale_init", "head_bias_init")
_SWITCHES = ("depth_rescale", "scan")


def checked(
    given: Mapping[str, Any], registered: Mapping[str, Any], where: str = ""
) -> dict[str, Any]:
    """Field values as models take them: Python's whole numbers, tuples, and the name of a dtype.

    The models themselves check words such as `gelu`. A user's own family may use a name for
    something of another kind, as the registered value shows; that stays as it is.

    Args:
      registered: the fields of the model's size, from `registry.model_fields`.
      where: begins the message, such as "config.model.".

    Raises:
      BadInput: a value of another kind, or out of range.
    """
    return {key: _checked(key, value, registered.get(key), where) for key, value in given.items()}


def _checked(field: str, value: Any, registered: Any, where: str) -> Any:
    if field == "dtype" and isinstance(registered, str):
        return _dtype(value, where)
    expected, fits = "", True
    if field == "num_classes" or (field in _COUNTS and isinstance(registered, int | tuple)):
        least = 0 if field in _MAY_BE_NONE else 1
        expected = f"a whole number, {least} or more"
        if isinstance(registered, tuple):
            expected = f"for each stage {expected}"
            fits = isinstance(value, list | tuple) and all(_is_count(v, least) for v in value)
            value = tuple(map(int, value)) if fits else value
        else:
            fits = _is_count(value, least)
            value = int(value) if fits else value
    elif field in _PROBABILITIES and isinstance(registered, float):
        expected, fits = f"0 <= {field} < 1", _is_number(value) and 0 <= value < 1
    elif field in _NUMBERS and isinstance(registered, float):
        expected, fits = "a number", _is_number(value) and math.isfinite(value)
    elif field in _SWITCHES and isinstance(registered, bool):
        expected, fits = "True or False", isinstance(value, bool | np.bool_)
    if not fits:
        raise errors.BadInput(f"{where}{field}={value!r}: expected {expected}")
    return value


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    kinds = int | float | np.integer | np.floating
    return isinstance(value, kinds) and not isinstance(value, bool)


def _dtype(value: Any, where: str) -> str:
    try:
        name = jnp.dtype(value).name
    except TypeError:
        near = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32"}
        raise errors.unknown(
            f"{where}dtype",
            value,
            ("float32", "bfloat16", "auto"),
            near=[near[value]] if value in near else None,
        ) from None
    if not jnp.issubdtype(name, jnp.floating):
        raise errors.BadInput(f"{where}dtype={name}: expected float32 or bfloat16")
    if name == "float64" and not jax.config.jax_enable_x64:
        raise errors.BadInput(
            f"{where}dtype=float64: JAX computes in float32 unless jax_enable_x64 is set: expected "
            f"float32 or bfloat16"
        )
    return name
