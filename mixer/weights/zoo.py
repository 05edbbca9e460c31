"""Table of the published Mixers: each one's name, address, preprocessing and expected accuracy.

The table repeats its sources; when it was written, no file was downloaded and no accuracy measured.
A hash is recorded at the first use (see `download`), as none was published. One small Mixer of our
own comes with the package, for examples that need no network.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixer import errors
from mixer.weights.class_names import synsets


@dataclasses.dataclass(frozen=True)
class Published:
    """A public weights file, or one that comes with the package.

    Attributes:
      name: the name that `load_pretrained` and `config.init_from` take.
      model: the registered model that it is for, except for `patch_size` and `gelu`.
      patch_size: pixels.
      gelu: the form that its publisher computes, "tanh" or "erf".
      url: the file's address, or its path in the package.
      layout: "official" (.npz, the tree's own names) or "timm" (.safetensors).
      dataset: the dataset of the head's classes.
      classes: the number of classes.
      top1: expected accuracy on the test images of `dataset` (ImageNet: validation) at
        `image_size`, a fraction; None if there are none or no source was found.
      source: where the figures are from or, if there are none, the file.
      note: what else to know.
      figures: expected top-1 accuracies with `transform`, fractions, by the evaluator in
        configs/imagenet.py: val, real (ReaL), v2, a, r, sketch; `verify_zoo` measures them.
      transform: the evaluation preprocessing, as a `mixer.data.transforms` string.
      image_size: (height, width) of the training images in pixels.
      names: class names, in the head's order, if they are not ImageNet's.
      mean, std: of the input that the file expects, (pixel / 255 - mean) / std. `load_pretrained`
        folds values other than 0.5 into the stem, so that images are always in [-1, 1].
    """

    name: str
    model: str
    patch_size: int
    gelu: str
    url: str
    layout: str
    dataset: str
    classes: int
    top1: float | None
    source: str
    note: str = ""
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    transform: str = "resize_small(256)|central_crop(224)"
    image_size: tuple[int, int] = (224, 224)
    names: tuple[str, ...] = ()
    mean: float = 0.5
    std: float = 0.5

    @property
    def class_names(self) -> tuple[str, ...]:
        """`names`, or ImageNet-1k's WordNet IDs; empty if neither is known."""
        return self.names or (synsets("imagenet2012") if self.dataset == "imagenet2012" else ())


def _official(
    size: str, folder: str, top1: float | None, source: str, note="", **more
) -> Published:
    letter, _, patch = size.partition("/")
    fields: dict[str, Any] = {
        "model": f"Mixer-{size}",
        "dataset": "imagenet2012",
        "classes": 1000,
    } | more
    return Published(
        name=f"Mixer-{size}:{folder}",
        patch_size=int(patch),
        gelu="tanh",
        url=f"gs://mixer_models/{folder}/Mixer-{letter}_{patch}.npz",
        layout="official",
        top1=top1,
        source=source,
        note=note,
        **fields,
    )


def _timm(size: str, tag: str, top1: float | None, source: str, note="", **more) -> Published:
    letter, _, patch = size.partition("/")
    fields: dict[str, Any] = {"dataset": "imagenet2012", "classes": 1000} | more
    return Published(
        name=f"Mixer-{size}:timm.{tag}",
        model=f"Mixer-{size}",
        patch_size=int(patch),
        gelu="erf",
        url=f"hf://timm/mixer_{letter.lower()}{patch}_224.{tag}",
        layout="timm",
        top1=top1,
        source=source,
        note=note,
        **fields,
    )


_PAPER = "Tolstikhin et al. 2021 (arXiv 2105.01601), table 3"
_SAM_PAPER = "Chen et al. 2021 (arXiv 2106.01548), as vision_transformer's issue 134 quotes it"
_SAM = "google-research/vision_transformer, README; listed by sayakpaul/MLPMixer-jax2tf"
_GSAM = "google-research/vision_transformer, README; listed by gau-nernst/vision-toolbox"
_RESULTS = "pytorch-image-models, results/results-imagenet.csv"
_CONFIG = "timm 1.0.31, models/mlp_mixer.py"

_USERS = "two users measured less: 0.689 (issue 134), 0.7558 (sayakpaul/MLPMixer-jax2tf)"
_MISNAMED = (
    "the weights of imagenet1k, despite its name (an author in pytorch-image-models PR 651: those "
    "fine-tuned from ImageNet-21k are not public); trained with tanh, measured with erf"
)
# By timm, which computes erf. V2 is matched-frequency; on A and R the model chooses among 200
# classes.
_FIGURES = "pytorch-image-models, results/results-*.csv (earlier editions differ, by 0.0023 on A)"
_SETS = ("val", "real", "v2", "a", "r", "sketch")
_B16 = dict(zip(_SETS, (0.76616, 0.82012, 0.63220, 0.08400, 0.34323, 0.25153), strict=True))
_L16 = dict(zip(_SETS, (0.72084, 0.77306, 0.56210, 0.05907, 0.26803, 0.20181), strict=True))
_BICUBIC = {"transform": "resize_small(256, method='bicubic')|central_crop(224)"}
_FT = "goog_in21k_ft_in1k"
_BILINEAR = "measured with antialiased bilinear resizing"

_I21K = {"dataset": "imagenet21k", "classes": 21843}
_I21K_P = {"dataset": "imagenet21k_p", "classes": 11221}
_FROM_0_TO_1 = {"mean": 0.0, "std": 1.0}

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_OURS = Published(
    name="Mixer-Ti/4:cifar10",
    model="Mixer-Ti/4",
    patch_size=4,
    gelu="tanh",
    url=str(Path(__file__).parent / "shipped" / "Mixer-Ti_4-cifar10.npz"),
    layout="official",
    dataset="cifar10",
    classes=10,
    top1=0.7314,
    source="experiments/shipped.sh",
    note="comes with this package",
    transform="resize",
    image_size=(32, 32),
    names=tuple(_CIFAR10.split()),
)

_TABLE = (
    _official("B/16", "imagenet1k", 0.7644, _PAPER, f"{_B16['val']} in {_RESULTS}, bicubic"),
    _official("L/16", "imagenet1k", 0.7176, _PAPER, f"{_L16['val']} in {_RESULTS}, bicubic"),
    _official("B/16", "imagenet21k", None, _PAPER, "fine-tuned on ImageNet: 0.8064", **_I21K),
    _official("L/16", "imagenet21k", None, _PAPER, "fine-tuned on ImageNet: 0.8289", **_I21K),
    _official("B/16", "sam", 0.774, _SAM_PAPER, _USERS),
    _official("B/32", "sam", None, _SAM),
    _official("S/32", "gsam", None, _GSAM),
    _official("S/16", "gsam", None, _GSAM),
    _official("S/8", "gsam", None, _GSAM, model="Mixer-S/16"),
    _official("B/32", "gsam", None, _GSAM),
    _official("B/16", "gsam", None, _GSAM),
    _timm("B/16", _FT, _B16["val"], _FIGURES, _MISNAMED, figures=_B16, **_BICUBIC),
    _timm("L/16", _FT, _L16["val"], _FIGURES, _MISNAMED, figures=_L16, **_BICUBIC),
    _timm("B/16", "goog_in21k", None, _CONFIG, "trained with tanh", **_I21K, **_BICUBIC),
    _timm("L/16", "goog_in21k", None, _CONFIG, "trained with tanh", **_I21K, **_BICUBIC),
    _timm("B/16", "miil_in21k", None, _CONFIG, **_I21K_P, **_FROM_0_TO_1),
    _timm("B/16", "miil_in21k_ft_in1k", 0.82306, _RESULTS, _BILINEAR, **_FROM_0_TO_1),
    _OURS,
)
PUBLISHED = {entry.name: entry for entry in _TABLE}


def list_pretrained(pattern: str = "*") -> list[Published]:
    """The published Mixers that match, which `load_pretrained` and `config.init_from` take by name.

    `Published` describes the fields: address, layout, preprocessing, form of GELU, classes, and the
    expected accuracy with its source.

    Args:
      pattern: of names, such as "*B/16*" or "*:sam"; case does not matter.

    Raises:
      BadInput: no name matches.
      TypeError: `pattern` is not a string.
    """
    if not isinstance(pattern, str):
        raise TypeError(f'list_pretrained({pattern!r}): expected a pattern of names, as "*B/16*"')
    found = [of for name, of in PUBLISHED.items() if fnmatch.fnmatch(name.lower(), pattern.lower())]
    if not found:
        fix = "" if "*" in pattern else f"All that contain it: '*{pattern}*'."
        raise errors.unknown("published model or pattern", pattern, PUBLISHED, fix)
    return found


def find(path: str) -> Published | None:
    """The entry of a published name; None for a path or an address.

    Raises:
      BadInput: `path` looks like a name but is not one.
    """
    if path in PUBLISHED:
        return PUBLISHED[path]
    if "://" in path or Path(path).expanduser().exists():
        return None
    if files := [name for name in PUBLISHED if name.partition(":")[0] == path]:
        raise errors.BadInput(f"{path!r} is a model: choose one of its files: {', '.join(files)}")
    if ":" in path:
        raise errors.unknown(
            "published model", path, PUBLISHED, "There is no such file or folder either."
        )
    if re.fullmatch(r"Mixer-\w+/\d+", path):
        near = errors.nearest(path, {name.partition(":")[0] for name in PUBLISHED}, 1)
        files = [name for name in PUBLISHED if name.partition(":")[0] in near]
        raise errors.BadInput(
            f"no weights of {path} are published, and there is no folder of this name. Nearest: "
            f"{', '.join(files)}; mixer.list_pretrained() has all"
        )
    name = path.rpartition("/")[2]
    if re.fullmatch(r"[a-z0-9_]+_\d{3}\.[a-z0-9_]+", name):  # as timm writes it: MODEL_SIZE.TAG
        ours = [entry.name for entry in PUBLISHED.values() if entry.url.endswith(f"/{name}")]
        raise errors.BadInput(
            f"there is no file or folder {path!r}. If timm's weights are meant: "
            f"{ours[0] if ours else f'hf://timm/{name}'}"
        )
    return None
