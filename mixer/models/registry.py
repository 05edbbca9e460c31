"""Registry of models: names, the class and fields of each; `register_model`, `create_model`."""

import dataclasses
import fnmatch
from typing import Any, Literal, SupportsIndex, overload

import jax
from flax import linen as nn

from mixer import defaults, errors
from mixer.models import field_values


@dataclasses.dataclass(frozen=True)
class Traits:
    """Properties of a model family that recipes and weights files depend on.

    They are the class attribute `traits` of the family's class: every size has them, under whatever
    name it is registered, and so does a derived class.

    Attributes:
      family: its own name, or the family of ours that it is built like, whose names its parameters
        have in files (`mixer.weights.formats.names`), and whose row a recipe's table uses if it has
        none for a size. Empty: its parameters can only be in a workdir.
      agc: the value for `config.optimizer.agc`, adaptive gradient clipping.
      uniform_depth: stochastic depth drops all branches with the same probability. Recipes state
        the probability of a ramp's last branch; this family uses half of it, the ramp's mean.
      zero_depth_is_meant: a size registered with a stochastic depth of 0 has it from its paper. In
        other families 0 means that the paper states none, and a recipe sets its own.
      square_on_imagenet: ImageNet test images are resized to a square at every resolution. In other
        families they keep their aspect ratio up to 224 pixels.
    """

    family: str = ""
    agc: float = 0.0
    uniform_depth: bool = False
    zero_depth_is_meant: bool = False
    square_on_imagenet: bool = False


# Fields that change how a model is computed and not what it computes; keys of config.runtime.
EXECUTION_FIELDS = ("scan", "remat")
# How far a model is verified, strongest first.
LEVELS = (
    "weights",  # published weights load and give the published logits or accuracy
    "other implementation",  # with the same random weights, another implementation's logits
    "counts",  # as many parameters as published
    "nothing",
)
# Arguments of timm's create_model, and what does the same here.
_ANY_SIZE = "`init` makes parameters for the size of the images that it is given."
_OF_TIMM = {
    "pretrained": "mixer.load(NAME) loads trained weights; mixer.list_pretrained() has the names.",
    "img_size": _ANY_SIZE,
    "image_size": _ANY_SIZE,
    "drop_path_rate": "It is called stochastic_depth here.",
}
_MODELS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {}
_VERIFIED: dict[str, str] = {}


def register_model(
    name: str,
    module: type[nn.Module],
    *,
    verified: str = "nothing",
    traits: Traits | None = None,
    **fields,
) -> None:
    """Registers `name` as the linen Module class `module` with these field values.

    Register a family of your own from your package, and name that in `config.imports`.

    Args:
      verified: how far tests show that it is the published model, one of `LEVELS`.
      traits: of the whole family, if its class does not define `traits`.

    Raises:
      ValueError: `name` is registered already as another model, `verified` is unknown, or the class
        has other traits.
    """
    if verified not in LEVELS:
        raise ValueError(f"verified={verified!r}: expected one of {', '.join(LEVELS)}")
    if traits and (known := vars(module).get("traits", traits)) != traits:
        raise ValueError(f"{module.__name__} has {known}: derive a class from it for {traits}")
    entry = (module, fields)
    if _MODELS.setdefault(name, entry) != entry:
        raise ValueError(f"model {name!r} is already registered as {_MODELS[name]}")
    _VERIFIED[name] = verified
    if traits:
        family: Any = module  # linen's Module declares no traits
        family.traits = traits


@overload
def list_models(pattern: str = ..., *, verbose: Literal[False] = ...) -> list[str]: ...
@overload
def list_models(pattern: str = ..., *, verbose: Literal[True]) -> dict[str, str]: ...
def list_models(pattern: str = "*", *, verbose: bool = False) -> list[str] | dict[str, str]:
    """The registered names that match, sorted.

    Args:
      pattern: such as "Mixer-*" or "*/16"; case does not matter.
      verbose: return {name: how far it is verified}. "weights": published weights load and give the
        published logits or accuracy; "other implementation": its logits are timm's with the same
        random weights; "counts": it has as many parameters as published; "nothing": a model of
        your own.

    Raises:
      BadInput: no name matches.
      TypeError: `pattern` is not a string (`verbose` is keyword-only).
    """
    if not isinstance(pattern, str):
        raise TypeError(f"list_models({pattern!r}): expected a string; pass verbose=True by name")
    names = [name for name in sorted(_MODELS) if fnmatch.fnmatchcase(name.lower(), pattern.lower())]
    if not names:
        raise errors.unknown("model or pattern of models", pattern, _MODELS)
    return {name: _VERIFIED[name] for name in names} if verbose else names


def _lookup(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    if name not in _MODELS:
        fix = ""
        if name.partition(":")[0] in _MODELS:  # the name of a published file
            fix = f"{name!r} may be trained weights, which mixer.load and config.init_from take."
        raise errors.unknown("model", name, _MODELS, fix)
    return _MODELS[name]


def traits(name: str) -> Traits:
    """The traits of the named model's family.

    Raises:
      BadInput: unknown name.
    """
    return getattr(_lookup(name)[0], "traits", Traits())


def known_as(name: str) -> str:
    """The first name under which this same model (class and fields) is registered.

    If you register one of our models again under your own name, tables are searched for our name.

    Raises:
      BadInput: unknown name.
    """
    module, _ = _lookup(name)
    fields = model_fields(name)
    same = (n for n, (other, _) in _MODELS.items() if other is module and model_fields(n) == fields)
    return next(same)


def model_fields(name: str) -> dict[str, Any]:
    """The fields of the named model that a config can contain, with their values.

    These are `num_classes` (None) and all fields whose value is a number, string, bool, None or a
    tuple of these, without `EXECUTION_FIELDS`.

    Raises:
      BadInput: unknown name.
    """
    module, fields = _lookup(name)
    values = {
        field.name: fields.get(field.name, field.default)
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name", "num_classes", *EXECUTION_FIELDS)
    }
    return {"num_classes": None} | {k: v for k, v in values.items() if _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def create_model(
    name: str, num_classes: SupportsIndex | None = None, **overrides: Any
) -> nn.Module:
    """Builds a model by its published name.

    Args:
      name: for instance "Mixer-B/16"; see `list_models`.
      num_classes: width of the head, which no name says: one size is published with several. 0
        leaves the head out, and the model returns features [N, C].
      **overrides: any other field of the family. dtype="auto" is the default for JAX's devices,
        see `mixer.defaults`.

    Raises:
      BadInput: unknown name or field, a value that the field cannot have, or no `num_classes`.
      TypeError: `name` is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"create_model({name!r}): expected a model's name, such as 'Mixer-B/16'")
    module, fields = _lookup(name)
    known = {field.name for field in dataclasses.fields(module)} - {"name"}
    if unknown := [key for key in overrides if key not in known]:
        fix = _OF_TIMM.get(unknown[0], "")
        near = () if fix else None
        raise errors.unknown(f"field of {name}", unknown[0], known - {"parent"}, fix, near)
    if num_classes is None:
        raise errors.BadInput(
            f"create_model({name!r}) needs num_classes, the number of classes: 1000 for ImageNet, "
            f"21843 for ImageNet-21k, 0 for features without a head. mixer.load(NAME) builds a "
            f"trained model with the head that it was published with"
        )
    if overrides.get("dtype") == defaults.AUTO:
        overrides["dtype"] = defaults.dtype(jax.devices()[0].platform)
    given = field_values.checked(
        overrides | {"num_classes": num_classes}, model_fields(name) | {"scan": False}
    )
    return module(**(fields | given))
