"""What the processes of a run tell each other, through JAX's key-value store; alone, nothing."""

import hashlib
import itertools
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from jax._src.distributed import global_state
from ml_collections import ConfigDict

from mixer import errors, storage
from mixer.runs import distributed
from mixer.runs.keys import as_json, flat

# Seconds that one may be behind another; one that is lost is noticed sooner, by its heartbeat.
_PATIENCE = 1800
VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_calls = itertools.count()


def exchange(text: str) -> list[str]:
    """What each process has given, in their order; all have to call it."""
    if distributed.count() == 1:
        return [text]
    client, call = global_state.client, next(_calls)
    place = f"mixer/{call}"
    client.key_value_set(f"{place}/{distributed.index():06}", text)
    client.wait_at_barrier(place, _PATIENCE * 1000)
    if call and distributed.index() == 0:
        client.key_value_delete(f"mixer/{call - 1}")  # by now everyone has read it
    return [value for _, value in sorted(client.key_value_dir_get(place))]


def total(number: int) -> int:
    """The sum over the processes."""
    return sum(map(int, exchange(str(number))))


def first_trouble(trouble: str | None) -> str | None:
    """The trouble that any process has, the first one's first; None if there is none."""
    return next((text for text in exchange(trouble or "") if text), None)


def from_first(decide: Callable[[], Any]) -> Any:
    """What `decide()` returns in process 0, as JSON; its errors too are everybody's.

    Raises:
      BadInput, Failure: what process 0 raised; there also what a disk or a store has said.
    """
    if distributed.count() == 1:
        return decide()
    outcome, raised = {}, None
    if distributed.index() == 0:
        try:
            outcome["value"] = decide()
        except Exception as error:
            known = isinstance(error, errors.BadInput | errors.Failure | OSError)
            if not known and not storage.is_of_client(error):
                raise
            raised = error
            outcome["bad" if isinstance(error, errors.BadInput) else "failure"] = str(error)
    outcome = json.loads(exchange(json.dumps(outcome))[0])
    if raised:
        raise raised
    if "value" not in outcome:
        kind = errors.BadInput if "bad" in outcome else errors.Failure
        raise kind(outcome.popitem()[1])
    return outcome["value"]


def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    return {name: metadata.version(name) for name in VERSIONED}


def code() -> str:
    """A hash of the project's Python files."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted([*root.glob("mixer/**/*.py"), *root.glob("configs/*.py")]):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def same_command(config: ConfigDict, workdir: str, protocol: str) -> None:
    """Refuses to begin where commands, code or packages differ between the processes.

    Raises:
      BadInput: lists what differs.
    """
    if distributed.count() > 1:
        facts = {"--workdir": workdir, "--config": protocol, "the code": code()}
        same(facts | versions() | flat(as_json(config), "config."))


def same_work(training) -> None:
    """Refuses to begin where a process would take other steps or read other examples.

    Raises:
      BadInput: lists what differs.
    """
    facts = {"the number of steps": training.total}
    for name, several in training.examples.items():
        for dataset, split, _, digest in several:
            facts[f"the examples of {dataset} {split} ({name})"] = digest
    same(facts)


def same(facts: dict[str, Any]) -> None:
    """Refuses to go on where the processes do not agree.

    Raises:
      BadInput: lists what differs, with the values of process 0 and of the first that has another.
    """
    mine = json.dumps(facts, sort_keys=True, default=str)
    digests = exchange(hashlib.sha256(mine.encode()).hexdigest())
    other = next((i for i, digest in enumerate(digests) if digest != digests[0]), None)
    if other is None:
        return
    shown = exchange(mine if distributed.index() in (0, other) else "")
    ours, theirs = json.loads(shown[0]), json.loads(shown[other])
    absent = "absent"
    lines = [
        f"{key}: {ours.get(key, absent)!r} in process 0, {theirs.get(key, absent)!r} in process "
        f"{other}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, absent) != theirs.get(key, absent)
    ]
    raise errors.BadInput("the processes were not started alike:\n  " + "\n  ".join(lines))
