"""Compares our models with timm's on the same random weights; stores timm's logits for the tests.

    pip install torch timm safetensors && python tools/timm_parity.py

For a small model of each family in `CASES` it draws weights from their names with NumPy, writes
them under timm's names, and loads them strictly in timm; where timm reads the published .npz files,
it does the same with those. It fails unless timm's logits equal ours to 1e-4. It writes timm's
logits, and the names, shapes and checksums of timm's arrays, to tests/models/fixtures/NAME.npz;
tests/models/test_timm.py compares with them, without timm. HaloNet has no files, and timm numbers
the positions of strided queries as if they were not strided: there both tables are 0.
"""

import dataclasses
import functools
import math
import sys
import tempfile
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import mixer  # noqa: E402
from mixer.weights import fitting, formats  # noqa: E402
from mixer.weights.formats.names import table  # noqa: E402
from tools import timm_halonet  # noqa: E402

FIXTURES = ROOT / "tests" / "models" / "fixtures"
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Case:
    """A small model.

    Attributes:
      base: registered model.
      fields: the fields of `base` to change.
      image_size: (height, width), not square, so that a transposition is noticed.
      timm: () -> the same model as a torch module of timm.
      reads_npz: whether timm's `load_pretrained` reads the published files of the family.
      names: names of timm's arrays, if `mixer.save_pretrained` does not know them.
      zero: prefix of the names of parameters that are set to 0; "" for none.
    """

    base: str
    fields: dict
    image_size: tuple[int, int]
    timm: Callable
    reads_npz: bool = False
    names: table.NameTable | None = None
    zero: str = ""

    @property
    def model(self) -> nn.Module:
        """Our model."""
        return mixer.create_model(self.base, num_classes=5, **self.fields)

    def params(self) -> dict:
        """Random parameters; each array depends only on its name."""
        flat = traverse_util.flatten_dict(fitting.shapes(self.model, self.image_size), sep="/")
        drawn = {name: _draw(name, array.shape) for name, array in flat.items()}
        for name in flat:
            # Standardisation cancels the scale of weights, except for the epsilon that timm adds
            # to their variance, which matters for small ones.
            if name.endswith("kernel") and name.replace("kernel", "gain") in flat:
                drawn[name] *= math.sqrt(math.prod(drawn[name].shape[:-1]))
            if self.zero and name.startswith(self.zero):
                drawn[name] *= 0
        return traverse_util.unflatten_dict(drawn, sep="/")

    def images(self) -> np.ndarray:
        """Two random images, float32 [2, H, W, 3]."""
        rng = np.random.default_rng(0)
        return rng.uniform(-0.5, 0.5, (2, *self.image_size, 3)).astype(np.float32)

    def logits(self, **changes) -> np.ndarray:
        """The logits of our model for `images` and `params`."""
        model = self.model.clone(**changes)
        with jax.default_matmul_precision("highest"):
            apply = jax.jit(lambda params, images: model.apply({"params": params}, images))
            return np.asarray(apply(self.params(), self.images()))


def fingerprints(arrays: dict[str, np.ndarray]) -> list[str]:
    """The name, shape and checksum of each array, sorted."""
    return sorted(f"{k} {v.shape} {zlib.crc32(v.tobytes()):08x}" for k, v in arrays.items())


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("kernel"):
        values *= 1.5 / math.sqrt(math.prod(shape[:-1]))
    else:
        values = name.endswith(("scale", "gamma", "alpha", "gain")) + 0.3 * values
    return values.astype(np.float32)


def _tokens(mlp_ratio, **classes):
    """A network of timm's mlp_mixer.py; `classes` names the classes of its parts in that file."""
    from timm.models import mlp_mixer

    return mlp_mixer.MlpMixer(
        num_classes=5,
        img_size=(8, 12),
        patch_size=4,
        num_blocks=2,
        embed_dim=8,
        mlp_ratio=mlp_ratio,
        **{argument: getattr(mlp_mixer, name) for argument, name in classes.items()},
    )


def _vit(**changes):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        num_classes=5,
        img_size=(8, 12),
        patch_size=4,
        depth=2,
        embed_dim=12,
        num_heads=3,
        mlp_ratio=2.0,
        **changes,
    )


def _bit():
    from timm.layers import StdConv2d
    from timm.models.resnetv2 import ResNetV2

    return ResNetV2(
        layers=(3, 1),
        channels=(128, 256),
        num_classes=5,
        stem_chs=32,
        stem_type="fixed",
        conv_layer=functools.partial(StdConv2d, eps=1e-8),
    )


def _convnext():
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(num_classes=5, depths=(1, 2, 1, 1), dims=(4, 8, 12, 16))


def _nfnet():
    from timm.models.nfnet import NormFreeNet, _dm_nfnet_cfg

    config = _dm_nfnet_cfg(depths=(1, 3), channels=(256, 512), act_layer="gelu")
    return NormFreeNet(config, num_classes=5)


_MIXER = {"patch_size": 4, "num_blocks": 2, "hidden_dim": 8, "tokens_mlp_dim": 10}
_MIXER |= {"channels_mlp_dim": 16, "gelu": "erf"}
_VIT = {"patch_size": 4, "num_blocks": 2, "hidden_dim": 12, "num_heads": 3, "mlp_dim": 24}
_VIT |= {"gelu": "erf"}
_CERTAIN = {"stochastic_depth": 0.0}  # some models have another rate by default
_RESMLP = {"patch_size": 4, "num_blocks": 2, "hidden_dim": 8, "channels_mlp_dim": 16}
_GMLP = {"patch_size": 4, "num_blocks": 2, "hidden_dim": 8, "ffn_dim": 24} | _CERTAIN
_CONVNEXT = {"num_blocks": (1, 2, 1, 1), "widths": (4, 8, 12, 16)} | _CERTAIN
_NFNET = {"num_blocks": (1, 3), "widths": (256, 512), "dropout": 0.0, "gelu": "erf"} | _CERTAIN
_HALONET = {"num_blocks": (1, 2), "widths": (64, 128), "num_heads": (8, 8), "block_size": 4}
_HALONET |= {"halo_size": 1, "out_ratio": 2.0}
CASES = {
    "Mixer": Case("Mixer-S/16", _MIXER, (8, 12), functools.partial(_tokens, (1.25, 2.0))),
    "ViT": Case("ViT-S/16", _VIT, (8, 12), _vit, reads_npz=True),
    "ViT-gap": Case(
        "ViT-S/16",
        _VIT | {"pooling": "gap"},
        (8, 12),
        functools.partial(_vit, global_pool="avg", class_token=False, fc_norm=False),
    ),
    "BiT": Case("BiT-R50x1", {"num_blocks": (3, 1), "width": 32}, (29, 42), _bit, reads_npz=True),
    "ResMLP": Case(
        "ResMLP-S12",
        _RESMLP,
        (8, 12),
        functools.partial(_tokens, 2.0, block_layer="ResBlock", norm_layer="Affine"),
    ),
    "gMLP": Case(
        "gMLP-S",
        _GMLP,
        (8, 12),
        functools.partial(_tokens, 3.0, block_layer="SpatialGatingBlock", mlp_layer="GatedMlp"),
    ),
    "ConvNeXt": Case("ConvNeXt-T", _CONVNEXT, (69, 96), _convnext),
    "NFNet": Case("NFNet-F0", _NFNET, (29, 42), _nfnet),
}
WITHOUT_FILES = {
    "HaloNet": Case(
        "HaloNet-H1",
        _HALONET,
        (32, 64),
        timm_halonet.network,
        names=timm_halonet.NAMES,
        zero="stage_1_block_0/attention/relative",
    )
}


def main() -> None:
    """Compares all cases and writes their logits."""
    _declare_torchvision()
    FIXTURES.mkdir(exist_ok=True)
    for name, case in (CASES | WITHOUT_FILES).items():
        logits, state = compare(name, case)
        versions = {package: version(package) for package in ("timm", "torch")}
        state = fingerprints(state)
        np.savez_compressed(FIXTURES / f"{name}.npz", logits=logits, state=state, **versions)


def compare(name: str, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(timm's logits, {name: array of timm}).

    Raises:
      SystemExit: timm's logits differ from ours.
    """
    import torch
    from safetensors.torch import load_file
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    images = torch.from_numpy(case.images()).permute(0, 3, 1, 2)
    if getattr(case.model, "normalization", "none") == "imagenet":  # timm leaves it to its caller
        mean, deviation = (
            torch.tensor(each)[:, None, None]
            for each in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        images = (images / 2 + 0.5 - mean) / deviation
    ours, found = case.logits(), {}
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("safetensors", "npz")[: 1 + case.reads_npz]:
            path = f"{folder}/weights.{ending}"
            if case.names:
                flat = traverse_util.flatten_dict(case.params(), sep="/")
                formats.write(path, case.names.write(flat, case.model))
            else:
                mixer.save_pretrained(path, case.params(), case.model)
            network = case.timm().eval()
            if ending == "npz":
                network.load_pretrained(path)
            else:
                network.load_state_dict(load_file(path), strict=True)
                state = {key: value.numpy() for key, value in network.state_dict().items()}
            with torch.no_grad():
                found[ending] = network(images).numpy()
    for ending, theirs in found.items():
        gap = np.abs(theirs - ours).max()
        print(
            f"{name}, .{ending}: largest difference {gap:.1e}, logits' deviation {ours.std():.2f}"
        )
        if gap > TOLERANCE:
            raise SystemExit(f"{name}: timm's logits differ from ours")
    return found["safetensors"], state


def _declare_torchvision() -> None:
    """Declares torchvision's operators: without them timm's import of torchvision fails."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    for operator in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
        for direction in ("", "_backward"):
            library.define(f"{'_' * bool(direction)}{operator}{direction}(Tensor input) -> Tensor")
    _declare_torchvision.library = library  # the declarations live as long as this object


if __name__ == "__main__":
    main()
