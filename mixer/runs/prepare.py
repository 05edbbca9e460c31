"""`config.run="prepare"`: images to an ArrayRecord dataset that every other run reads."""

import time

from etils import epath
from ml_collections import ConfigDict

from mixer import storage
from mixer.data.prepare import dataset
from mixer.runs import build, workdir
from mixer.training.signals import StopSignal


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes `<data_dir>/<name>/<version>`; results.json and what was removed into the workdir.

    Raises:
      BadInput: before anything is written.
      Failure: what is written so far stands, and the same command goes on with it.
    """
    begin = time.perf_counter()
    job = build.preparation(config)
    with StopSignal() as stop:
        made = dataset.prepare(job, accept=lambda: workdir.begin(path, config), stop=stop.poll)
    if not made:
        return
    about = dataset.summary(job.target)
    if job.test_sets:
        with storage.write_whole(path / dataset.REMOVED) as file:
            file.write((job.target / dataset.REMOVED).read_bytes())
    for split, found in about["splits"].items():
        print(
            f"{split}: {found['examples']:,} examples in {found['shards']:,} shards, "
            f"{found['bytes'] / 1e6:,.1f} MB; {found['removed']:,} removed as test examples"
        )
    print(f"{about['classes']:,} classes; done: {job.target}")
    workdir.write_results(
        path,
        {
            "run": "prepare",
            "protocol": protocol,
            "dataset": job.target.parent.name,
            "seconds": time.perf_counter() - begin,
            "metrics": {
                f"{split}/{name}": value
                for split, found in about["splits"].items()
                for name, value in found.items()
            }
            | {"dataset/classes": about["classes"], "dataset/failures": 0},
        },
        on_devices=False,
    )
