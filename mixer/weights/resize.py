"""Resizes parameters made for one image size to another (section 3 and appendix C).

In a ViT only the position embeddings depend on the grid of patches. A convolutional net's
parameters fit any size. In a Mixer only token mixing depends on the grid: for S tokens in raster
order, its first kernel is [S, D_S], its second [D_S, S], the second bias [S]. A ResMLP and a gMLP
mix tokens with one kernel [S, S] and a bias [S]. There are two ways to another grid:

Block-diagonal, the paper's, if the new grid is K_h x K_w times the old. The image is cut into
K_h x K_w parts, each with a copy of the old weights: D_S, if there is one, grows K_h K_w times, the
kernels are block-diagonal once tokens are sorted by part, and the new model's output is exactly the
mean of the old one's outputs for the parts.

Resampling, for any grid, with D_S unchanged: the new token-mixing MLP is the old one between two
bilinear, antialiased resizes of the token map, D [S, S'] to the old grid and U [S', S] to the new
one: K1' = D^T K1, K2' = K2 U^T, b2' = U b2; a single kernel becomes D^T K U^T. If the grid grows, D
is the pseudo-inverse of U, so that mixing a map enlarged by U gives the enlarged result of mixing
the original; a bilinear D would blur again what U has already blurred. If the grid shrinks, D is
the bilinear resize. The rows of D and U sum to 1. So each hidden unit keeps the sum of its input
weights and its response to constant tokens, a constant output stays constant, and a constant image
keeps its representation except for what the model adds by position, which is interpolated.
"""

import math
import numbers
from typing import Any

import numpy as np
from flax import linen as nn

from mixer import errors
from mixer.weights import fitting
from mixer.weights.formats import names

METHODS = ("auto", "block_diagonal", "resample")


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or two.

    Raises:
      BadInput: it is neither one integer nor two.
    """
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, numbers.Integral) for side in sides):
        raise errors.BadInput(
            f"image size {size!r}: expected pixels, one integer or (height, width)"
        )
    return int(sides[0]), int(sides[1])


def grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
      BadInput: the patches do not tile the image.
    """
    if min(image_size) < 1 or any(side % patch_size for side in image_size):
        near = (max(1, round(side / patch_size)) * patch_size for side in image_size)
        raise errors.BadInput(
            f"image size {_text(image_size)} is not divisible by patch_size {patch_size}: the "
            f"nearest divisible size is {_text(near)}"
        )
    return image_size[0] // patch_size, image_size[1] // patch_size


def at_resolution(
    model: nn.Module,
    image_size: int | tuple[int, int],
    pretrained_size: int | tuple[int, int],
    method: str = "auto",
) -> nn.Module:
    """The module that `load_pretrained(path, model, image_size, ...)` returns parameters for.

    Args:
      model: the Module at its pretraining width.
      image_size: pixels (height, width), or one number, at which it will be used.
      pretrained_size: pixels that the parameters were made for.
      method: for token mixing, "auto" uses "block_diagonal" if the new grid of patches is an
        integer multiple of the old along each side, else "resample"; position embeddings are
        always resampled.

    Returns:
      `model`; for a block-diagonal Mixer, with `tokens_mlp_dim` multiplied by K_h K_w.

    Raises:
      BadInput: patches do not tile a size, the method is unknown or cannot make this grid, or the
        model cannot be resized.
    """
    fitting.check_module(model)
    _, _, factors = _plan(model, pair(image_size), pair(pretrained_size), method)
    if factors is None or not hasattr(model, "tokens_mlp_dim"):
        return model
    return model.clone(tokens_mlp_dim=model.tokens_mlp_dim * math.prod(factors))


def resize(
    params: dict[str, Any],
    model,
    image_size: tuple[int, int],
    pretrained_size: tuple[int, int],
    method: str = "auto",
) -> dict[str, Any]:
    """Converts parameters of `model` to those of `at_resolution(model, ...)`, which see.

    Args:
      params: nested dict of float32 NumPy arrays.

    Returns:
      The same tree with new token mixing or positions; `params` itself if the grid is the same.
    """
    old, new, factors = _plan(model, image_size, pretrained_size, method)
    if old == new:
        return params
    if "pos_embedding" in params:
        return params | {"pos_embedding": _resize_positions(params["pos_embedding"], old, new)}
    change = _resample(old, new) if factors is None else _block_diagonal(old, factors)
    return params | {
        name: part | {"token_mixing": change(part["token_mixing"])}
        for name, part in params.items()
        if "token_mixing" in part
    }


def with_patch_size(params: dict[str, Any], patch_size: int) -> dict[str, Any]:
    """The parameters with a stem for another patch size, and everything else unchanged.

    The grid is the same for images enlarged (shrunk) by the same factor. A patch x resized
    bilinearly is B x; the new stem is the pseudo-inverse of B^T times the old one (Beyer et al.
    2022, FlexiViT), so that resized patches have the old embeddings: exactly when they grow, in the
    least-squares sense when they shrink.

    Args:
      params: nested dict of arrays with "stem", its kernel [P, P, 3, C].
      patch_size: the new P, pixels; the model is `model.clone(patch_size=patch_size)`.

    Raises:
      BadInput: `patch_size` is not positive, or the model has no patches.
    """
    if patch_size < 1:
        raise errors.BadInput(f"patch_size={patch_size}: expected 1 or more")
    if "stem" not in params or "stem_norm" in params:
        raise errors.BadInput(
            "with_patch_size is for models with patches (Mixer, ViT, ResMLP, gMLP), but these "
            f"parameters are {', '.join(list(params)[:3])}, ..."
        )
    kernel = np.asarray(params["stem"]["kernel"])
    if len(kernel) == patch_size:
        return params
    back = np.linalg.pinv(bilinear(len(kernel), patch_size).T)
    kernel = np.einsum("ai,bj,ijcd->abcd", back, back, kernel).astype(np.float32)
    return params | {"stem": params["stem"] | {"kernel": kernel}}


def bilinear(old: int, new: int) -> np.ndarray:
    """The matrix [new, old], float64, of a linear resize: half-pixel centres, antialiased.

    Its rows sum to 1; for new == old it is exactly the identity.
    """
    wider = max(1.0, old / new)
    centres = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old) - centres) / wider)
    return weights / weights.sum(axis=1, keepdims=True)


def _plan(model, image_size, pretrained_size, method):
    """(old grid, new grid, (K_h, K_w) or None for resampling); all None if nothing changes."""
    if method not in METHODS:
        raise errors.unknown("method", method, METHODS)
    if image_size == pretrained_size:
        return None, None, None
    family = names.family_of(model)
    if family is None or family.patches is None:
        if family is None and _differ(model, image_size, pretrained_size):
            raise errors.BadInput(
                f"a {type(model).__name__} cannot be resized from {_text(pretrained_size)} to "
                f"{_text(image_size)}: there is no rule for its parameters; use their own size"
            )
        return None, None, None
    old, new = grid(pretrained_size, model.patch_size), grid(image_size, model.patch_size)
    if not family.mixes_tokens:
        if method == "block_diagonal":
            raise errors.BadInput(
                f"method='block_diagonal' is for token mixing; a {family.name}'s positions are "
                f"resampled: leave it out"
            )
        return old, new, None
    integers = new[0] % old[0] == 0 and new[1] % old[1] == 0
    if method == "block_diagonal" and not integers:
        raise errors.BadInput(
            f"method='block_diagonal' needs a grid that is an integer multiple of the old: from "
            f"{_text(old)} patches ({_text(pretrained_size)}) to {_text(new)} "
            f"({_text(image_size)}) use method='resample'"
        )
    resampled = method == "resample" or not integers
    return old, new, None if resampled else (new[0] // old[0], new[1] // old[1])


def _differ(model, *sizes) -> bool:
    one, other = (fitting.shapes(model, size) for size in sizes)
    return one != other


def _block_diagonal(old: tuple[int, int], factors: tuple[int, int]):
    copies = math.prod(factors)
    (part_r, row), (part_c, col) = (
        divmod(np.arange(side * times), side) for side, times in zip(old, factors, strict=True)
    )
    # For each new token in raster order: which part it is in, and which token of that part it is.
    part = (part_r[:, None] * factors[1] + part_c).ravel()
    token = (row[:, None] * old[1] + col).ravel()
    mine = part[:, None] == np.arange(copies)  # [S', K]

    def change(mixing):
        if "kernel" in mixing:
            same = part[:, None] == part
            kernel = np.where(same, mixing["kernel"][np.ix_(token, token)], 0)
            return {"kernel": kernel, "bias": mixing["bias"][token]}
        first, second = mixing["Dense_0"], mixing["Dense_1"]
        tall = np.where(mine[:, :, None], first["kernel"][token][:, None], 0)
        wide = np.where(mine.T[:, None], second["kernel"][None, :, token], 0)
        return {
            "Dense_0": {
                "kernel": tall.reshape(len(token), -1),
                "bias": np.tile(first["bias"], copies),
            },
            "Dense_1": {
                "kernel": wide.reshape(-1, len(token)),
                "bias": second["bias"][token],
            },
        }

    return change


def _resample(old: tuple[int, int], new: tuple[int, int]):
    ups = [bilinear(o, n) for o, n in zip(old, new, strict=True)]
    downs = [
        np.linalg.pinv(u) if n > o else bilinear(n, o)
        for u, o, n in zip(ups, old, new, strict=True)
    ]
    up, down = np.kron(*ups), np.kron(*downs)

    def outwards(dense):
        kernel, bias = dense["kernel"] @ up.T, up @ dense["bias"]
        return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}

    def change(mixing):
        if "kernel" in mixing:
            return outwards(mixing | {"kernel": down.T @ mixing["kernel"]})
        first, second = mixing["Dense_0"], mixing["Dense_1"]
        kernel = (down.T @ first["kernel"]).astype(np.float32)
        return {"Dense_0": first | {"kernel": kernel}, "Dense_1": outwards(second)}

    return change


def _resize_positions(table: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Position embeddings [1, rows, D], float32, resized to the grid `new`.

    Bilinear with aligned corners, enlarging or shrinking, as in vision_transformer
    (`scipy.ndimage.zoom` of order 1). (`jax.image.resize` and timm align the outer edges instead.)

    Args:
      table: its last rows are those of the grid `old`, in raster order; any row before them, the
        class token's, is unchanged.
    """
    count = old[0] * old[1]
    kept, patches = table[:, :-count], table[0, -count:].reshape(*old, -1)
    down, across = (_between(o, n) for o, n in zip(old, new, strict=True))
    patches = np.einsum("ai,bj,ijd->abd", down, across, patches)
    return np.concatenate([kept, patches.reshape(1, -1, table.shape[2])], 1).astype(np.float32)


def _between(old: int, new: int) -> np.ndarray:
    """[new, old]: for each new point, the weights of the two old points around it."""
    places = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(np.arange(old) - places[:, None]))


def _text(size) -> str:
    return " x ".join(map(str, size))
