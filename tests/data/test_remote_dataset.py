import os
import threading

import pytest

from mixer import errors
from mixer.data import sources
from mixer.storage import timeout

REMOTE = "gs://bucket/data"


def test_a_dataset_in_a_store_is_the_one_on_disk(noise_dir, server):
    for split in ("train", "train[98%:]+test[:3]"):
        remote = sources.open_source("noise", split, REMOTE + "/")
        local = sources.open_source("noise", split, noise_dir)
        assert sources.fingerprint(remote) == sources.fingerprint(local)
        assert remote.classes == local.classes and len(remote) == len(local)
        assert [remote[i] for i in (0, 2)] == [local[i] for i in (0, 2)]
        assert remote.where(1) == local.where(1)


def test_opening_costs_a_listing_and_the_metadata(server):
    server.page = 1000
    sources.open_source("noise:1.0.0", "train", REMOTE)
    assert server.asked("listing") == 1
    assert server.asked() == 1 + server.asked("features.json") + server.asked("dataset_info.json")


def test_the_environment_may_name_the_store(server, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", REMOTE)
    assert len(sources.open_source("noise", "test")) == 40


def test_bad_stores_are_refused(server):
    def refused(message, dataset="noise", data_dir=REMOTE, split="train"):
        with pytest.raises(errors.BadInput, match=message):
            sources.open_source(dataset, split, data_dir)

    refused("split 'val' of noise.*train \\(383\\)", split="val")
    refused("unknown dataset 'nois'.*not prepared in gs://bucket/data", dataset="nois")
    refused("imagenet2012.*is not prepared in gs://bucket/data", dataset="imagenet2012")
    refused("'noise': gs://buckt/data/noise/: status 404", data_dir="gs://buckt/data")
    server.public = False
    refused("status 401.*requirements-gcs.txt.*Storage Object Viewer")


def test_an_unresponsive_data_dir_is_refused_in_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(timeout, "SECONDS", 0.2)
    server.fail = lambda number: "hang"
    with pytest.raises(errors.BadInput, match=r"gs://bucket/data cannot be opened within 0.2 s.*"):
        sources.open_source("noise", "train", REMOTE)
    lost = threading.Event()
    real = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda p: lost.wait() if p == tmp_path else real(p))
    for dataset in ("noise", "digits"):
        with pytest.raises(
            errors.BadInput, match=r"cannot be opened within 0.2 s.*mounted.*config.input.stage"
        ):
            sources.open_source(dataset, "train", tmp_path)
    lost.set()


def test_an_error_is_raised_not_treated_as_a_timeout():
    with pytest.raises(ZeroDivisionError):
        timeout.within("here", lambda: 1 / 0)
    assert timeout.within("here", lambda: 7) == 7
