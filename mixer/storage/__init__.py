"""Files near and far: read, listed, copied; written whole or not at all, grown, locked, moved.

Two clients lead to a bucket. Data are read by `bucket`, whose text has the figures; workdirs are
read and written by gcsfs (through etils.epath), as Orbax does it.
"""

import logging

import fsspec.config

from mixer.storage.bucket import FileInfo, StoreError
from mixer.storage.cache import cache_folder
from mixer.storage.growing import Growing, grow
from mixer.storage.locks import lock, make_once
from mixer.storage.moving import move, remove
from mixer.storage.reading import DamagedCopy, copy, list_files, read, sha256
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
    "put_in_place",
    "read",
    "remove",
    "remove_abandoned",
    "sha256",
    "trouble",
    "write_whole",
    "write_whole_folder",
]

# Other processes and machines write to the same bucket. Who remembers what was there does not see
# their files, and reads those that have grown only up to their old end.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
# What its client logs, with pages of traces, is raised here too.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
