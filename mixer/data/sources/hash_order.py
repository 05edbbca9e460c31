"""The hash by which examples are sorted in storage and files listed in folders."""

import hashlib


def hash_key(key: str) -> bytes:
    """The sort key of an example; `key` is, for example, a file's path below its dataset.

    In this order every range of a split is a random sample. A file name need not be UTF-8: its
    bytes are hashed.
    """
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()
