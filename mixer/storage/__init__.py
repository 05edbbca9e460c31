"""Files on disks and in object stores: written whole or not at all, grown, locked, moved."""

import logging

import fsspec.config

from mixer.storage.growing import Growing, grow
from mixer.storage.locks import lock
from mixer.storage.moving import move, remove
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
    "Growing",
    "Unreadable",
    "Unwritable",
    "grow",
    "is_of_client",
    "is_remote",
    "lock",
    "move",
    "naming",
    "put_in_place",
    "remove",
    "remove_abandoned",
    "trouble",
    "write_whole",
    "write_whole_folder",
]

# Other processes and machines write to the same bucket. Who remembers what was there does not see
# their files, and reads those that have grown only up to their old end.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
# What its client logs, with pages of traces, is raised here too.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
