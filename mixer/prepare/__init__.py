"""Images from tars, folders and manifests to a sharded ArrayRecord dataset in TFDS layout.

`readers` list a source, `listing` puts the list into hash order and cuts it into shards, `writing`
writes these in several processes, `dataset` puts the result in its place.
"""
