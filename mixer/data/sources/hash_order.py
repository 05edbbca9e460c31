"""The order in which examples are stored and folders listed: that of a fixed hash of their keys."""

import hashlib


def hash_key(key: str) -> bytes:
    """What examples are sorted by; `key` is such as a file's path below its dataset.

    In this order every range of a split is a random sample. A file's name need not be UTF-8: what
    counts are its bytes.
    """
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()
