"""The only file that uses private parts of JAX: its state of the processes of a run.

JAX has no public API for the number of a process before the devices are initialized, for the
address of the coordinator, and for its key-value store, through which processes can exchange more
than arrays.
"""

import functools
from typing import Any

import jax

from mixer import errors


@functools.cache
def _state() -> Any:
    try:
        from jax._src.distributed import global_state
    except ImportError as error:
        raise _lacks(str(error)) from None
    return global_state


def _of(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError as error:
        raise _lacks(str(error)) from None


def _lacks(what: str) -> errors.Failure:
    return errors.Failure(
        f"jax {jax.__version__} lacks a part that runs of several processes need ({what}): install "
        f"a version that requirements.txt allows"
    )


def processes() -> int:
    """The number of processes; 1 before they have joined."""
    return _of(_state(), "num_processes")


def index() -> int:
    """The number of this process, from 0."""
    return _of(_state(), "process_id")


def coordinator() -> str | None:
    """HOST:PORT of process 0. JAX sets it, and `index`, before it connects."""
    return _of(_state(), "coordinator_address")


def put(key: str, text: str) -> None:
    """Writes a text to the key-value store of the run."""
    _client("key_value_set")(key, text)


def read_all(folder: str) -> list[str]:
    """The texts whose keys begin with FOLDER/, in the order of their keys."""
    return [text for _, text in sorted(_client("key_value_dir_get")(folder))]


def delete(key: str) -> None:
    """Removes a text, or all texts of a folder."""
    _client("key_value_delete")(key)


def wait_for_all(name: str, seconds: float) -> None:
    """Returns once all processes have called it with this name.

    Raises:
      An error of JAX's: a process has not called it within `seconds`, or is lost.
    """
    _client("wait_at_barrier")(name, round(seconds * 1000))


def _client(method: str) -> Any:
    return _of(_of(_state(), "client"), method)
