"""Tracks which config keys a run reads, and refuses keys that were given but would be ignored.

A run builds everything from the config before it writes anything. By then it has read every key
that it uses, so a key that was given but not read has no effect: it is refused.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mixer import errors


@dataclasses.dataclass
class _Usage:
    """What is known of a config's keys; shared by all its groups and copies.

    Attributes:
      given: {flag or recipe word: keys or groups of keys that it sets}.
      read: the keys read so far.
      overruled: {key: (the value used instead, where that comes from)}.
    """

    given: Mapping[str, tuple[str, ...]]
    read: set[str] = dataclasses.field(default_factory=set)
    overruled: dict[str, tuple[Any, str]] = dataclasses.field(default_factory=dict)


class TrackedConfig(ConfigDict):
    """A config that records which of its keys are read.

    Reading a key which the run itself has overwritten in this copy does not count: that does not
    use the given value.
    """

    def __init__(self, *args, **kwargs):
        self._attach(_Usage({}), "")
        super().__init__(*args, **kwargs)

    def _attach(self, usage: _Usage, prefix: str, overwritten: Collection[str] = ()) -> None:
        # As attributes, not as fields of the config; ConfigDict does the same with its own.
        object.__setattr__(self, "_usage", usage)
        object.__setattr__(self, "_prefix", prefix)
        object.__setattr__(self, "_overwritten", set(overwritten))

    def __getitem__(self, key):
        value = super().__getitem__(key)
        if not isinstance(value, ConfigDict) and key not in self._overwritten:
            self._usage.read.add(self._prefix + key)
        return value

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self._overwritten.add(key)

    def copy_and_resolve_references(self, visit_map=None) -> "TrackedConfig":
        """A copy that records its reads in the same place."""
        copied = super().copy_and_resolve_references(visit_map)
        copied._attach(self._usage, self._prefix, self._overwritten)
        return copied


def track(config: ConfigDict, given: Mapping[str, tuple[str, ...]] = {}) -> TrackedConfig:
    """The same config, which records its reads from now on; see `_Usage` for `given`."""
    return _tracked(config, _Usage(given), "")


def _tracked(config: ConfigDict, usage: _Usage, prefix: str) -> TrackedConfig:
    found = TrackedConfig(type_safe=config.is_type_safe)
    for key, value in config.items(preserve_field_references=True):
        group = isinstance(value, ConfigDict)
        found[key] = _tracked(value, usage, f"{prefix}{key}.") if group else value
    found._attach(usage, prefix)
    return found.lock() if config.is_locked else found


def check_levels(names: Iterable[str], config: ConfigDict) -> None:
    """Refuses flags that set a group of keys, or a part of a value; skips unknown keys.

    Args:
      names: of flags, such as "--config.optimizer.name"; those of other flags are skipped.

    Raises:
      BadInput: the message has the keys of the group, or the value.
    """
    for name in names:
        start, *parts = name.lstrip("-").split(".")
        found, at = config, start
        for part in parts if start == "config" else ():
            if not isinstance(found, ConfigDict):
                raise errors.BadInput(
                    f"unknown config key {name.lstrip('-')!r}: {at} is a value, {found!r}, not a "
                    f"group of keys"
                )
            part, bracket, _ = part.partition("[")
            if part not in found:
                break
            if bracket:
                raise errors.BadInput(
                    f"{name}: an item of {at}.{part} cannot be set alone; set all of it: "
                    f"--{at}.{part}={found[part]!r}"
                )
            found, at = found[part], f"{at}.{part}"
        else:
            if parts and start == "config" and isinstance(found, ConfigDict):
                inner = sorted(found)
                fix = f"set them one by one, --{at}.KEY=VALUE, where KEY is one of "
                fix += ", ".join(inner)
                if len(inner) == 1:
                    fix = f"set --{at}.{inner[0]}=VALUE"
                raise errors.BadInput(f"{at} is a group of keys: {fix}")


def read_so_far(config: TrackedConfig) -> set[str]:
    """The keys read so far, "a.b"."""
    return set(config._usage.read)


def given(config: ConfigDict) -> set[str]:
    """The keys that the command itself sets."""
    by_flag = config._usage.given if isinstance(config, TrackedConfig) else {}
    return {name for names in by_flag.values() for name in names}


def overrule(config: ConfigDict, values: Mapping[str, Any], source: str) -> None:
    """Records that the run uses `values`, {key: value} from `source`, instead of the config's."""
    if isinstance(config, TrackedConfig):
        config._usage.overruled.update((key, (value, source)) for key, value in values.items())


def check_overruled(config: ConfigDict) -> None:
    """Checks the overruled keys now, for runs that put the overruling values into their config.

    Raises:
      BadInput: the command sets a key to another value than the one used.
    """
    if isinstance(config, TrackedConfig):
        values = flat(as_json(config))
        for flag, names in config._usage.given.items():
            _overruled(values, config._usage, flag, names)


def used(config: ConfigDict, before: Collection[str] = ()) -> dict[str, Any]:
    """The keys that this run has read or set so far, with their values, as nested dicts.

    Args:
      config: if it is not tracked, all its keys count as read.
      before: keys that an earlier session of this run has read.

    Raises:
      BadInput: the command sets a key that is not among them.
    """
    everything = as_json(config)
    if not isinstance(config, TrackedConfig):
        return everything
    usage = config._usage
    read = usage.read | set(before)
    for flag, names in usage.given.items():
        reads = any(_is_within(key, name) for key in read for name in names)
        if not reads and not _overruled(flat(everything), usage, flag, names):
            raise errors.BadInput(
                f"{flag} would not be used: config.run={everything['run']} does not read it with "
                f"the other options given. Leave it out"
            )
    return _only(everything, read | _set_in(config))


def _overruled(
    values: Mapping[str, Any], usage: _Usage, flag: str, names: Collection[str]
) -> dict[str, tuple[Any, str]]:
    """The overruled keys among those that `flag` sets: {key: (value used instead, its source)}.

    Raises:
      BadInput: the flag sets a key to another value than the one used.
    """
    overruled = {
        key: (json.loads(json.dumps(value)), source)
        for key, (value, source) in usage.overruled.items()
        if any(_is_within(key, name) for name in names)
    }
    differing = [key for key, (value, _) in overruled.items() if values.get(key) != value]
    if differing:
        key = differing[0]
        value, source = overruled[key]
        raise errors.BadInput(
            f"{flag} would not be used: config.{key}={value!r} from {source} takes precedence. "
            f"Leave it out"
        )
    return overruled


def _is_within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _set_in(config: TrackedConfig) -> set[str]:
    """The keys overwritten in this copy, "a.b", such as the learning rate of a sweep's trial."""
    found = {config._prefix + key for key in config._overwritten}
    for key in config:
        value = ConfigDict.__getitem__(config, key)  # not recorded as a read
        found |= _set_in(value) if isinstance(value, TrackedConfig) else set()
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
    """The whole config as it is written to JSON; not recorded as reads."""
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
