"""The folder on this machine for files that can be fetched or made again."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixer.storage.whole import Unwritable, write_whole


def cache_folder() -> Path:
    """$MIXER_CACHE, else $XDG_CACHE_HOME/mixer, else ~/.cache/mixer."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mixer"
    return Path(os.environ.get("MIXER_CACHE") or default).expanduser().absolute()


def remembered(kind: str, version: tuple, doing: str, find: Callable[[], Any]) -> Any:
    """`find()`, a JSON value; a later call with the same `version` reads it from the cache folder.

    Args:
      kind: the name of a folder in the cache folder.
      version: tells what `find` reads from all else, also from what is at the same place later.
      doing: what `find` does, for the terminal, such as "listing a.tar".
    """
    known = repr(version).encode(errors="surrogateescape")
    place = cache_folder() / kind / hashlib.sha256(known).hexdigest()
    try:
        return json.loads(place.read_bytes())
    except (OSError, ValueError):
        print(f"{doing}, once\n", end="", flush=True)  # whole, also from several threads
        found = find()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(place) as stream:
            stream.write(json.dumps(found).encode())
    except (OSError, Unwritable) as error:
        print(f"warning: {doing} again next time: {error}", flush=True)
    return found
