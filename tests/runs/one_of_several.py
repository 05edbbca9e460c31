"""One of several processes of a test. It writes its findings to FOLDER/<process>.json.

python one_of_several.py FOLDER COORDINATOR PROCESSES PROCESS
"""

import hashlib
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from configs import quickstart
from mixer.checkpoint.damage import DamagedCheckpoint
from mixer.checkpoint.store import Store
from mixer.errors import BadInput, Failure
from mixer.hosts import exchange, joining, parting, peers, sharing
from mixer.runs import predict
from mixer.runs.training import build_training


def config():
    """The config of a tiny run whose test images do not fill the last batch."""
    tiny = quickstart.get_config("smoke")
    tiny.batch_size = 16
    tiny.model.num_blocks = 1
    tiny.evaluators.test.update(split="test[:27]", batch_size=16)
    return tiny


def rows_and_metrics():
    """({"step/row" of a global batch: digest}, metrics) as this process sees them."""
    training = build_training(config())
    found = {}
    with training.reader.batches(3, 5) as batches:
        for step, batch in enumerate(batches, 3):
            for shard in batch["image"].addressable_shards:
                for row, pixels in enumerate(np.asarray(shard.data), shard.index[0].start or 0):
                    found[f"{step}/{row}"] = hashlib.sha256(pixels.tobytes()).hexdigest()
    state = training.update.create_state()
    # A new head is zero, which makes every class equally likely. So add something to it.
    wave = lambda x: x + 0.3 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    params = jax.jit(lambda tree: jax.tree.map(wave, tree))(state.params)
    (evaluation,) = training.evaluations
    return found, evaluation.measure(params)


def embed(folder, workdir):
    """Runs config.run=predict on the files in a folder, of which one is unreadable."""
    asked = quickstart.get_config("smoke", run="predict")
    asked.update(init_from="random", images=str(folder))
    asked.predict.embeddings = "npz"
    predict.run(asked, str(workdir), "configs/quickstart.py:smoke")


def _error(function):
    try:
        return function()
    except (BadInput, Failure) as error:
        return f"{type(error).__name__}: {error}"


def _exchanges(folder):
    mine = peers.index()
    sharing._TIMEOUT = 1

    def refuse():
        raise BadInput("only process 0 has looked")

    return {
        "total": exchange.sum_over_processes(mine),
        "first": exchange.from_first(lambda: {"process": mine}),
        "refused": _error(lambda: exchange.from_first(refuse)),
        "alike": _error(lambda: exchange.same({"config.seed": 1, "steps": 3})),
        "unlike": _error(lambda: exchange.same({"config.seed": mine // 2, "steps": 3})),
        "shared": _error(lambda: sharing.check(folder / "not" / "yet" / "there")),
        "not shared": _error(lambda: sharing.check(folder / f"of_{min(mine, 1)}")),
    }


class _Half(Store):
    """A checkpoint store whose newest checkpoint process 1 cannot read."""

    def _read(self, step, abstract):
        if step == 2 and peers.index() == 1:
            raise DamagedCheckpoint("process 1 cannot read step 2")
        return super()._read(step, abstract)


def _checkpoints(folder):
    mesh = jax.make_mesh((jax.device_count(),), ("all",), (jax.sharding.AxisType.Auto,))
    place = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
    make = lambda n: {"w": jnp.arange(64.0).reshape(8, 8) * n, "b": jnp.ones(3) * n}
    places = {"w": place("all"), "b": place()}
    keep = dict(keep=2, first_message=exchange.first_error)
    with Store(folder / "checkpoints", **keep) as store:
        for step in (1, 2):
            tree = jax.jit(lambda step=step: make(step), out_shardings=places)()
            store.save(step, {"params": tree}, {}, None)
    # Restore with another sharding: columns instead of rows.
    places["w"] = place(None, "all")
    abstract = {
        k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=places[k])
        for k, v in jax.eval_shape(lambda: make(1)).items()
    }
    reports = []
    with _Half(folder / "checkpoints", **keep) as store:
        items, meta = store.restore_newest({"params": abstract}, reports.append)
        steps = store.steps()
    shards = items["params"]["w"].addressable_shards
    whole = np.arange(64.0, dtype=np.float32).reshape(8, 8)
    right = all(np.array_equal(shard.data, whole[shard.index]) for shard in shards)
    return {"step": meta["step"], "steps": steps, "reports": reports, "right": right}


def main():
    folder, coordinator, processes, process = sys.argv[1:]
    folder = Path(folder)
    joining.start(coordinator, int(processes), int(process), "train")
    rows, metrics = rows_and_metrics()
    found = {"rows": rows, "metrics": metrics, "exchanges": _exchanges(epath.Path(folder))}
    found["checkpoints"] = _checkpoints(folder)
    embed(folder / "images", folder / "predicted")
    (folder / f"{process}.json").write_text(json.dumps(found))
    parting.leave(0)


if __name__ == "__main__":
    main()
