"""Reading beside a run that trains on, and removes what is being read."""

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mixer import errors

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# How often a checkpoint may vanish while it is read.
_ATTEMPTS = 20


class Gone(errors.BadInput):
    """A checkpoint that is not there any more."""


def again_if_gone(load: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Makes `load` begin anew when the run that trains there removed what was being loaded.

    It takes the checkpoints that are there then, so all that it loads is of one step.

    Raises:
      Gone: one that was asked for by its number; or all that were tried.
    """

    @functools.wraps(load)
    def loading(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        before = None
        for _ in range(_ATTEMPTS):
            try:
                return load(*args, **kwargs)
            except Gone as error:
                if str(error) == str(before):
                    raise
                before = error
                time.sleep(0.1)
        raise Gone(
            f"{before}. So it went {_ATTEMPTS} times: raise config.runtime.checkpoint_every of the "
            f"run that trains there, or wait until it is done"
        )

    return loading
