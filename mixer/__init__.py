"""MLP-Mixer in JAX: models, training, transfer and evaluation.

What a user imports is listed here. Each name is imported when it is first used, so that the data
workers, which import `mixer.data`, start without JAX.
"""

import importlib
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, to which the table below says nothing
    __version__: str
    from mixer.classifier import Classifier as Classifier
    from mixer.data.sources import register_source as register_source
    from mixer.data.transforms import register_transform as register_transform
    from mixer.errors import BadInput as BadInput
    from mixer.evaluation.registry import register_evaluator as register_evaluator
    from mixer.loading import load as load
    from mixer.models.registry import Traits as Traits
    from mixer.models.registry import create_model as create_model
    from mixer.models.registry import list_models as list_models
    from mixer.models.registry import register_model as register_model
    from mixer.preprocessing import preprocess as preprocess
    from mixer.training.losses import register_loss as register_loss
    from mixer.training.writers import register_writer as register_writer
    from mixer.weights.pretrained import load_pretrained as load_pretrained
    from mixer.weights.resize import at_resolution as at_resolution
    from mixer.weights.resize import with_patch_size as with_patch_size
    from mixer.weights.saving import save_pretrained as save_pretrained
    from mixer.weights.zoo import list_pretrained as list_pretrained

_PUBLIC = {
    # A trained model, ready to use, and images for it.
    "Classifier": "mixer.classifier",
    "load": "mixer.loading",
    "preprocess": "mixer.preprocessing",
    # A model by its name, and parameters for it.
    "list_models": "mixer.models.registry",
    "create_model": "mixer.models.registry",
    "list_pretrained": "mixer.weights.zoo",
    "load_pretrained": "mixer.weights.pretrained",
    "save_pretrained": "mixer.weights.saving",
    # Both for images or patches of another size.
    "at_resolution": "mixer.weights.resize",
    "with_patch_size": "mixer.weights.resize",
    # What is yours, under a name that configs can use.
    "register_model": "mixer.models.registry",
    "Traits": "mixer.models.registry",
    "register_source": "mixer.data.sources",
    "register_transform": "mixer.data.transforms",
    "register_loss": "mixer.training.losses",
    "register_evaluator": "mixer.evaluation.registry",
    "register_writer": "mixer.training.writers",
    # What is raised when something that was asked for cannot be done.
    "BadInput": "mixer.errors",
}
__all__ = sorted(_PUBLIC)


if not TYPE_CHECKING:  # to which it would make every name known

    def __getattr__(name: str):
        if name == "__version__":
            return _version()
        if name not in _PUBLIC:
            raise AttributeError(f"module 'mixer' has no attribute {name!r}")
        return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _version() -> str:
    """The version of this clone, even if a package is also installed; else the package's."""
    project = "mlp-mixer-jax"
    try:
        found = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
        if found["name"] == project:
            return found["version"]
    except (OSError, ValueError, KeyError):
        pass  # not a clone
    return metadata.version(project)
