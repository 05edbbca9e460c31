"""MLP-Mixer in JAX: models, training, transfer and evaluation.

The public names below are imported when first used, so that the data workers, which import
`mixer.data`, start without JAX.
"""

import importlib

_PUBLIC = {
    "create_model": "mixer.models.registry",
    "list_models": "mixer.models.registry",
    "register_model": "mixer.models.registry",
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
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mixer' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return __all__
