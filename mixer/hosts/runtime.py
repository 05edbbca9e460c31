"""What JAX knows of the processes of a run, and shows nowhere but in its private state.

JAX has no public names for a process's number before the devices are used, for the coordinator's
address, and for the key-value store by which processes can tell each other more than arrays.
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
        f"jax {jax.__version__} lacks what several processes need of it ({what}): install one that "
        f"requirements.txt allows"
    )


def processes() -> int:
    """How many there are; 1 before they have met."""
    return _of(_state(), "num_processes")


def index() -> int:
    """Which of them this is."""
    return _of(_state(), "process_id")


def coordinator() -> str | None:
    """HOST:PORT of process 0. JAX sets it, and who this is, before it connects."""
    return _of(_state(), "coordinator_address")


def tell(key: str, text: str) -> None:
    """Puts a text where all can read it."""
    _client("key_value_set")(key, text)


def told(folder: str) -> list[str]:
    """The texts whose keys begin with FOLDER/, in the keys' order."""
    return [text for _, text in sorted(_client("key_value_dir_get")(folder))]


def forget(key: str) -> None:
    """Removes a text, or all in a folder."""
    _client("key_value_delete")(key)


def wait_for_all(name: str, seconds: float) -> None:
    """Returns when all have called it.

    Raises:
      An error of JAX's: not all have within the seconds, or one is lost.
    """
    _client("wait_at_barrier")(name, round(seconds * 1000))


def _client(method: str) -> Any:
    return _of(_of(_state(), "client"), method)
