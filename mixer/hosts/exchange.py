"""Messages between the processes of a run, through JAX's key-value store.

All processes must call a function here in the same order. A single process sends no messages.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mixer import errors, storage
from mixer.hosts import peers, runtime, software

# Seconds that one process may be behind another. A lost process is noticed earlier, by its
# heartbeat.
_TIMEOUT = 1800
_calls = itertools.count()


def gather(text: str) -> list[str]:
    """The texts that the processes pass, in the order of the processes."""
    if peers.count() == 1:
        return [text]
    call = next(_calls)
    folder = f"mixer/{call}"
    runtime.put(f"{folder}/{peers.index():06}", text)
    runtime.wait_for_all(folder, _TIMEOUT)
    if call and peers.index() == 0:
        runtime.delete(f"mixer/{call - 1}")  # by now every process has read it
    return runtime.read_all(folder)


def sum_over_processes(number: int) -> int:
    """The sum of the numbers that the processes pass."""
    return sum(map(int, gather(str(number))))


def first_error(message: str | None) -> str | None:
    """The error message of the first process that passes one; None if none does."""
    return next((text for text in gather(message or "") if text), None)


def from_first(decide: Callable[[], Any]) -> Any:
    """Returns in every process what `decide()` returns in process 0, sent as JSON.

    If `decide()` raises `BadInput`, `Failure` or an error of a disk or an object store, every
    process raises it; an error of a disk or a store becomes a `Failure` in the other processes.
    """
    if peers.count() == 1:
        return decide()
    outcome, raised = {}, None
    if peers.index() == 0:
        try:
            outcome["value"] = decide()
        except Exception as error:
            known = isinstance(error, errors.BadInput | errors.Failure | OSError)
            if not known and not storage.is_of_client(error):
                raise
            raised = error
            outcome["bad" if isinstance(error, errors.BadInput) else "failure"] = str(error)
    outcome = json.loads(gather(json.dumps(outcome))[0])
    if raised:
        raise raised
    if "value" not in outcome:
        kind = errors.BadInput if "bad" in outcome else errors.Failure
        raise kind(outcome.popitem()[1])
    return outcome["value"]


def same_command(config: Mapping[str, Any], workdir: str, protocol: str) -> None:
    """Refuses to start if commands, code or packages differ between the processes.

    Args:
      config: {"config.KEY": value}.
      protocol: the recipe's name, with its words.

    Raises:
      BadInput: lists what differs.
    """
    if peers.count() > 1:
        facts = {"--workdir": workdir, "--config": protocol, "the code": software.code()}
        same(facts | software.versions() | config)


def same_work(total: int, examples: Mapping[str, Sequence]) -> None:
    """Refuses to start if the processes would do different steps or read different examples.

    Args:
      total: number of steps.
      examples: by purpose, tuples (dataset, split, number of examples, digest).

    Raises:
      BadInput: lists what differs.
    """
    facts = {"the number of steps": total}
    for name, several in examples.items():
        for dataset, split, _, digest in several:
            facts[f"the examples of {dataset} {split} ({name})"] = digest
    same(facts)


def same(facts: dict[str, Any]) -> None:
    """Ends the run if `facts` differ between the processes.

    Raises:
      BadInput: lists what differs, with the values of process 0 and of the first other process.
    """
    mine = json.dumps(facts, sort_keys=True, default=str)
    digests = gather(hashlib.sha256(mine.encode()).hexdigest())
    other = next((i for i, digest in enumerate(digests) if digest != digests[0]), None)
    if other is None:
        return
    shown = gather(mine if peers.index() in (0, other) else "")
    ours, theirs = json.loads(shown[0]), json.loads(shown[other])
    absent = "absent"
    lines = [
        f"{key}: {ours.get(key, absent)!r} in process 0, {theirs.get(key, absent)!r} in process "
        f"{other}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, absent) != theirs.get(key, absent)
    ]
    raise errors.BadInput("the processes of this run differ:\n  " + "\n  ".join(lines))
