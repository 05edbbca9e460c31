"""Turns images in tars, folders and manifests into a sharded ArrayRecord dataset in TFDS layout.

`readers` list a source, `listing` sorts the list by hash and splits it into shards, `writing`
writes the shards in several processes, `dataset` runs it all and moves the result into place.
"""
