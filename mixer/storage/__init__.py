"""Files on disks and in object stores: written whole or not at all, grown, locked, moved."""

from mixer.storage.growing import Growing, grow
from mixer.storage.locks import lock
from mixer.storage.moving import move, remove
from mixer.storage.whole import (
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
    "Unwritable",
    "grow",
    "is_remote",
    "lock",
    "move",
    "naming",
    "put_in_place",
    "remove",
    "remove_abandoned",
    "write_whole",
    "write_whole_folder",
]
