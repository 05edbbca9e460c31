"""`config.run="convert"`: weights into another kind of file, or a folder for the Hub."""

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer.checkpoint import hub, official
from mixer.runs import build, workdir


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes `config.convert_to`, then results.json.

    Raises:
      BadInput: before anything is written.
    """
    found = build.conversion(config)
    workdir.begin(path, config)
    if found.target.endswith("/"):
        hub.save_folder(found.target, found.params, found.model, found.card)
    else:
        official.save_pretrained(found.target, found.params, found.model, found.card.image_size)
    count = sum(x.size for x in jax.tree.leaves(found.params))
    name = found.card.model["name"]
    print(f"{name}, {count:,} parameters: {config.init_from} -> {found.target}")
    workdir.write_results(
        path,
        {
            "run": "convert",
            "protocol": protocol,
            "model": name,
            "resolution": build.resolution(found.card.image_size),
            "step": found.step,
            "params": count,
            "metrics": {},
            "upstream": found.upstream,
        },
    )
