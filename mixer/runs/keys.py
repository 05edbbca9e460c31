"""Nothing that is given is ignored: which keys of a config a run reads, and which were given.

A run builds all that it needs from the config before it writes anything. By then it has read every
key that it uses, so a key that was given and not read would have changed nothing: it is refused.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from mixer import errors


@dataclasses.dataclass
class _Notes:
    """Shared by all groups of a config and by all its copies.

    Attributes:
      given: by how something was given, the keys (or groups of keys) by which it may be used.
      read: keys.
      counts: by key, what counts in its place, and where that is from.
    """

    given: Mapping[str, tuple[str, ...]]
    read: set[str] = dataclasses.field(default_factory=set)
    counts: dict[str, tuple[Any, str]] = dataclasses.field(default_factory=dict)


class Followed(ConfigDict):
    """A config that notes which of its keys are read.

    A key that a run has overwritten in a copy is its own from then on: reading it there is no use
    of what was given.
    """

    def __init__(self, *args, **kwargs):
        self._attach(_Notes({}), "")
        super().__init__(*args, **kwargs)

    def _attach(self, notes: _Notes, prefix: str, overwritten: Collection[str] = ()) -> None:
        # As ConfigDict keeps its own attributes: past the fields.
        object.__setattr__(self, "_notes", notes)
        object.__setattr__(self, "_prefix", prefix)
        object.__setattr__(self, "_overwritten", set(overwritten))

    def __getitem__(self, key):
        value = super().__getitem__(key)
        if not isinstance(value, ConfigDict) and key not in self._overwritten:
            self._notes.read.add(self._prefix + key)
        return value

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self._overwritten.add(key)

    def copy_and_resolve_references(self, visit_map=None) -> "Followed":
        """A copy whose readings are noted too."""
        copied = super().copy_and_resolve_references(visit_map)
        copied._attach(self._notes, self._prefix, self._overwritten)
        return copied


def follow(config: ConfigDict, given: Mapping[str, tuple[str, ...]] = {}) -> Followed:
    """The same config, its readings noted from now on; see `_Notes` for `given`."""
    return _followed(config, _Notes(given), "")


def _followed(config: ConfigDict, notes: _Notes, prefix: str) -> Followed:
    found = Followed(type_safe=config.is_type_safe)
    for key, value in config.items(preserve_field_references=True):
        group = isinstance(value, ConfigDict)
        found[key] = _followed(value, notes, f"{prefix}{key}.") if group else value
    found._attach(notes, prefix)
    return found.lock() if config.is_locked else found


def read_so_far(config: Followed) -> set[str]:
    """The keys that were read, "a.b"."""
    return set(config._notes.read)


def given(config: ConfigDict) -> set[str]:
    """The keys that the command sets itself."""
    how = config._notes.given if isinstance(config, Followed) else {}
    return {name for names in how.values() for name in names}


def overrule(config: ConfigDict, values: Mapping[str, Any], source: str) -> None:
    """Says what counts in the place of some keys: `values`, which `source` brings."""
    if isinstance(config, Followed):
        config._notes.counts.update((key, (value, source)) for key, value in values.items())


def check_overruled(config: ConfigDict) -> None:
    """Looks at once at what was given, where a run goes on with what counts in its place.

    Raises:
      BadInput: another value was given than the one that counts.
    """
    if isinstance(config, Followed):
        values = flat(as_json(config))
        for how, names in config._notes.given.items():
            _instead(values, config._notes, how, names)


def used(config: ConfigDict, before: Collection[str] = ()) -> dict[str, Any]:
    """The keys that this run has read or set so far, with their values, as nested dicts.

    Args:
      before: keys that an earlier session of this run has read. Of a config that is not followed,
        all keys count as read.

    Raises:
      BadInput: something was given that none of them uses.
    """
    everything = as_json(config)
    if not isinstance(config, Followed):
        return everything
    notes = config._notes
    read = notes.read | set(before)
    for how, names in notes.given.items():
        reads = any(_is_within(key, name) for key in read for name in names)
        if not reads and not _instead(flat(everything), notes, how, names):
            raise errors.BadInput(
                f"{how} would not be used: config.run={everything['run']}, with what else is "
                f"given, does not read it. Leave it out"
            )
    return _only(everything, read | _set_in(config))


def _instead(
    values: Mapping[str, Any], notes: _Notes, how: str, names: Collection[str]
) -> dict[str, tuple[Any, str]]:
    """By the keys that were given and do not count, the value that does and where it is from.

    Raises:
      BadInput: another value was given than the one that counts.
    """
    instead = {
        key: (json.loads(json.dumps(value)), source)
        for key, (value, source) in notes.counts.items()
        if any(_is_within(key, name) for name in names)
    }
    differing = [key for key, (value, _) in instead.items() if values.get(key) != value]
    if differing:
        key = differing[0]
        value, source = instead[key]
        raise errors.BadInput(
            f"{how} would not be used: what counts is config.{key}={value!r}, which comes from "
            f"{source}. Leave it out"
        )
    return instead


def _is_within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _set_in(config: Followed) -> set[str]:
    """What this copy of the config has of its own, "a.b", such as a sweep's trial its rate."""
    found = {config._prefix + key for key in config._overwritten}
    for key in config:
        value = ConfigDict.__getitem__(config, key)  # which is no reading of it
        found |= _set_in(value) if isinstance(value, Followed) else set()
    return found


def _only(tree: dict[str, Any], read: Collection[str], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            if group := _only(value, read, f"{prefix}{key}."):
                found[key] = group
        elif f"{prefix}{key}" in read:
            found[key] = value
    return found


def as_json(config: ConfigDict) -> dict[str, Any]:
    """All of a config as it is written down; this is no reading of its keys."""
    return json.loads(config.to_json(sort_keys=True))


def flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    found = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def at_least(least: int, **keys: float) -> None:
    """Refuses config keys below `least`."""
    for key, value in keys.items():
        if value < least:
            raise errors.BadInput(f"config.{key}={value}: expected {least} or more")


def within(low: float, below: float, **keys: float) -> None:
    """Refuses config keys outside [low, below), NaN among them."""
    for key, value in keys.items():
        if not low <= value < below:
            raise errors.BadInput(f"config.{key}={value}: expected {low} <= {key} < {below}")
