"""Parses the words after a config's colon: comma-separated, in any order."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs import meanings
from mixer import errors
from mixer.data import sources
from mixer.data.sources import in_place, tfds_builder, vtab_tasks
from mixer.models import registry

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass
class Arguments:
    """The parsed words; `smoke` asks for the one-minute version, `dtype` is that of the model."""

    model: str
    dataset: str
    resolution: int
    smoke: bool = False
    dtype: str = "auto"
    choice: str = ""


def parse(
    words: str,
    *,
    model: str,
    dataset: str,
    resolution: int,
    datasets: Mapping[str, str] = {},
    choices: Sequence[str] = (),
) -> Arguments:
    """Parses a model, a dataset, an integer resolution, `float32` or `bfloat16`, and `smoke`.

    Args:
      model, dataset, resolution: the defaults.
      datasets: short names for datasets.
      choices: the recipe's own words, of which one may be given; the first is the default.

    Raises:
      BadInput: a word that is none of these, or two of one kind.
    """
    found = {}
    for word in _words(words or ""):
        kind, value = ("choice", word) if word in choices else _classify(word, datasets, choices)
        if kind in found:
            raise errors.BadInput(f"config argument {word!r}: a {kind} was already given")
        found[kind] = value
    if "smoke" in found and "dataset" in found:
        print(f"smoke: uses the dataset digits, not {found['dataset']}", flush=True)
    defaults = {"model": model, "dataset": dataset, "resolution": resolution}
    return Arguments(**(defaults | {"choice": next(iter(choices), "")} | found))


# The keys that a word of each kind may set; what `smoke` sets is up to the recipe.
_KEYS = {
    "model": ("model.name", "reproduce"),
    "dataset": ("dataset", "evaluators", "vtab", "reproduce"),
    "resolution": ("image_size", "reproduce"),
    "dtype": ("model.dtype",),
}


def keys_of(words: str) -> dict[str, tuple[str, ...]]:
    """{word: the keys through which a run may use it}, for the kinds in `_KEYS`."""
    found = {}
    for word in _words(words):
        with contextlib.suppress(errors.BadInput):  # a user recipe's own word
            kind, _ = _classify(word, dict.fromkeys(vtab_tasks.TASKS, ""))
            if kind in _KEYS:
                found[f"the word {word!r}"] = _KEYS[kind]
    return found


def _words(words: str) -> list[str]:
    """The words between the commas; the path of a dataset may contain commas."""
    found, parts = [], words.split(",")
    while parts:
        stop = 1
        kind, _, path = parts[0].strip().partition(":")
        if kind in in_place.NAMES:
            paths = (",".join([path, *parts[1:end]]) for end in range(1, len(parts) + 1))
            there = (end for end, p in enumerate(paths, 1) if Path(p).expanduser().exists())
            stop = next(there, 1)
        found.append(",".join(parts[:stop]).strip())
        del parts[:stop]
    return list(filter(None, found))


def _meant_by_path(word: str) -> str:
    """How to give what is at this path; "" if nothing is there that a run could use."""
    path = Path(word).expanduser()
    if path.suffix.lower() in (".npz", ".safetensors") or (path / "config.json").is_file():
        return f"--config.init_from={word}" if path.exists() else ""
    return in_place.meant_by(word)


def _classify(
    word: str, datasets: Mapping[str, str], choices: Sequence[str] = ()
) -> tuple[str, object]:
    if word == "smoke":
        return "smoke", True
    if word in DTYPES:
        return "dtype", word
    if word.isdigit():
        return "resolution", int(word)
    if word in registry.list_models():
        return "model", word
    if word in datasets:
        return "dataset", datasets[word]
    if sources.is_dataset(word):
        return "dataset", word
    if "=" in word:
        raise errors.BadInput(f"config argument {word!r}: keys are set with --config.{word}")
    kind, _, path = word.partition(":")
    places = [f"{kind}:PATH" for kind in in_place.NAMES]
    if there := _meant_by_path(word):
        near = [there]
    elif "/" in path:
        near = errors.nearest(f"{kind}:PATH", places, 1)
    elif keys := meanings.called(word, meanings.common_keys()):
        near = [f"--config.{key}=" for key in keys if not key.startswith("--")]
    else:
        models = registry.list_models()
        known = ["smoke", *DTYPES, *choices, *datasets, *models, *sources.datasets()]
        near = tfds_builder.meant_by(word, known)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    others = ", ".join((*choices, *datasets, *DTYPES))
    raise errors.BadInput(
        f"unknown config argument {word!r}.{hint} Expected a model (such as Mixer-B/16; "
        f"mixer.list_models() has all), a dataset (digits, a TFDS name, {', '.join(places)}), a "
        f"resolution in pixels, {others} or smoke"
    )
