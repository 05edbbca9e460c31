"""Local and bucket files: read, list, copy, write atomically, append, lock, move, remove.

Buckets have two clients. `bucket` reads data (its docstring has the measurements); workdirs are
read and written with gcsfs (through etils.epath), which Orbax also uses.
"""

import logging

import fsspec.config

from mixer.storage.bucket import FileInfo, StoreError
from mixer.storage.cache import cache_folder, remembered
from mixer.storage.growing import Growing, grow
from mixer.storage.locks import lock, make_once
from mixer.storage.moving import move, remove
from mixer.storage.reading import DamagedCopy, copy, list_files, read, sha256
from mixer.storage.seekable import open_object
from mixer.storage.trouble import is_of_client, trouble
from mixer.storage.whole import (
    Unreadable,
    Unwritable,
    is_remote,
    naming,
    put_in_place,
    remove_abandoned,
    write_whole,
    write_whole_folder,
)

__all__ = [
    "DamagedCopy",
    "FileInfo",
    "Growing",
    "StoreError",
    "Unreadable",
    "Unwritable",
    "cache_folder",
    "copy",
    "grow",
    "is_of_client",
    "is_remote",
    "list_files",
    "lock",
    "make_once",
    "move",
    "naming",
    "open_object",
    "put_in_place",
    "read",
    "remembered",
    "remove",
    "remove_abandoned",
    "sha256",
    "trouble",
    "write_whole",
    "write_whole_folder",
]

# Other processes and machines write to the same bucket. With cached listings, their new files are
# not seen, and files that have grown are read only up to their old end.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
# gcsfs logs errors with pages of tracebacks; they are raised too.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
