"""What the processes of a run tell each other, through JAX's key-value store; alone, nothing."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mixer import errors, storage
from mixer.hosts import peers, runtime, software

# Seconds that one may be behind another; one that is lost is noticed sooner, by its heartbeat.
_PATIENCE = 1800
_calls = itertools.count()


def gather(text: str) -> list[str]:
    """What each process has given, in their order; all have to call it."""
    if peers.count() == 1:
        return [text]
    call = next(_calls)
    place = f"mixer/{call}"
    runtime.tell(f"{place}/{peers.index():06}", text)
    runtime.wait_for_all(place, _PATIENCE)
    if call and peers.index() == 0:
        runtime.forget(f"mixer/{call - 1}")  # by now everyone has read it
    return runtime.told(place)


def total(number: int) -> int:
    """The sum over the processes."""
    return sum(map(int, gather(str(number))))


def first_trouble(trouble: str | None) -> str | None:
    """The trouble that any process has, the first one's first; None if there is none."""
    return next((text for text in gather(trouble or "") if text), None)


def from_first(decide: Callable[[], Any]) -> Any:
    """What `decide()` returns in process 0, as JSON; its errors too are everybody's.

    Raises:
      BadInput, Failure: what process 0 raised; there also what a disk or a store has said.
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
    """Refuses to begin where commands, code or packages differ between the processes.

    Args:
      config: its values by "config.KEY".

    Raises:
      BadInput: lists what differs.
    """
    if peers.count() > 1:
        facts = {"--workdir": workdir, "--config": protocol, "the code": software.code()}
        same(facts | software.versions() | config)


def same_work(total: int, examples: Mapping[str, Sequence]) -> None:
    """Refuses to begin where a process would take other steps or read other examples.

    Args:
      total: steps.
      examples: by what they are for, (dataset, split, how many, digest).

    Raises:
      BadInput: lists what differs.
    """
    facts = {"the number of steps": total}
    for name, several in examples.items():
        for dataset, split, _, digest in several:
            facts[f"the examples of {dataset} {split} ({name})"] = digest
    same(facts)


def same(facts: dict[str, Any]) -> None:
    """Refuses to go on where the processes do not agree.

    Raises:
      BadInput: lists what differs, with the values of process 0 and of the first that has another.
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
    raise errors.BadInput("the processes were not started alike:\n  " + "\n  ".join(lines))
