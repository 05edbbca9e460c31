"""The folder on this machine for files that can be fetched or made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$MIXER_CACHE, else $XDG_CACHE_HOME/mixer, else ~/.cache/mixer."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mixer"
    return Path(os.environ.get("MIXER_CACHE") or default).expanduser().absolute()
