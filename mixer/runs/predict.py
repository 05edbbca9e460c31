"""`config.run="predict"`: image files to their five likeliest classes."""

import glob
import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import transforms
from mixer.data.decode import decode
from mixer.runs import build, workdir

_TOP = 5


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Prints a table and writes predictions.jsonl and results.json.

    Raises:
      BadInput: no such file, or a file that is no image; before anything is written.
    """
    path = workdir.open_workdir(output)
    workdir.check(path, config)
    if workdir.is_complete(path):
        return
    files = _files(config.images)
    trained = build.trained(config)
    transform = transforms.parse(trained.card.transform, trained.card.image_size)
    images = []
    for file in files:
        try:
            images.append(transform(decode(file.read_bytes()), np.random.default_rng(0)))
        except ValueError as error:
            raise errors.BadInput(f"{file}: {error}") from None
    workdir.begin(path, config)
    apply = jax.jit(
        lambda params, image: jax.nn.softmax(
            trained.model.apply({"params": params}, batch_lib.to_model_input(image))
        )
    )
    lines = []
    for file, image in zip(files, images, strict=True):
        probabilities = np.asarray(apply(trained.params, np.ascontiguousarray(image)[None]))[0]
        best = np.argsort(-probabilities)[:_TOP]
        top = [(trained.card.classes[i], float(probabilities[i])) for i in best]
        lines.append({"file": str(file), "top": [{"class": c, "probability": p} for c, p in top]})
        print(file)
        for name, probability in top:
            print(f"  {probability:7.2%}  {name}")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "predictions.jsonl").write_text(text)
    workdir.write_results(
        path,
        {
            "run": "predict",
            "protocol": protocol,
            "model": trained.card.model["name"],
            "resolution": build.resolution(trained.card.image_size),
            "step": trained.step,
            "metrics": {},
            "upstream": trained.upstream,
            "precision": trained.precision,
        },
    )


def _files(names: str) -> list[Path]:
    """The files that a comma-separated list or a glob stands for."""
    if not names:
        raise errors.BadInput("config.run=predict needs --config.images=FILE[,FILE...] or a glob")
    files = []
    for name in (part.strip() for part in names.split(",")):
        path = Path(name).expanduser()
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
        if not found:
            raise errors.BadInput(f"config.images: no file {name!r}")
        files += found
    return files
