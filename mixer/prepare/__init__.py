"""Images from tars, folders and manifests to a sharded ArrayRecord dataset in TFDS layout.

`readers` list a source, `plan` puts the list into hash order and cuts it into shards, `shard`
writes one of them, `dataset` runs them in processes and puts the result in its place.
"""
