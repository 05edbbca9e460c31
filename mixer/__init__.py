"""MLP-Mixer in JAX: models, training, transfer and evaluation.

The public names below are imported when first used, so that the data workers, which import
`mixer.data`, start without JAX.
"""

import importlib
import tomllib
from importlib import metadata
from pathlib import Path

_PUBLIC = {
    "create_model": "mixer.models.registry",
    "list_models": "mixer.models.registry",
    "register_model": "mixer.models.registry",
    "Traits": "mixer.models.registry",
    "register_source": "mixer.data.sources",
    "register_transform": "mixer.data.transforms",
    "register_evaluator": "mixer.evaluation.registry",
    "load": "mixer.loading",
    "preprocess": "mixer.preprocessing",
    "load_pretrained": "mixer.checkpoint.pretrained",
    "list_pretrained": "mixer.checkpoint.zoo",
    "save_pretrained": "mixer.checkpoint.official",
    "at_resolution": "mixer.checkpoint.resize",
    "with_patch_size": "mixer.checkpoint.resize",
    "BadInput": "mixer.errors",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mixer' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return [*__all__, "__version__"]


def _version() -> str:
    """A clone's own, whatever else is installed; else the installed package's."""
    project = "mlp-mixer-jax"
    try:
        found = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
        if found["name"] == project:
            return found["version"]
    except (OSError, ValueError, KeyError):
        pass  # it is no clone
    return metadata.version(project)
