"""What a login may not read on the Hugging Face Hub, in our words."""

from mixer import errors

LOGIN = "log in (`hf auth login`, or set HF_TOKEN)"


def refused(name: str, page: str, *, gated: bool) -> errors.BadInput:
    """The error for a repository that this login may not read, or that does not exist.

    Args:
      name: the repository as it was given.
      page: its address.
      gated: whether its authors grant access.
    """
    if gated:
        return errors.BadInput(
            f"{name}: access is granted by its authors: request it at {page}, then {LOGIN}"
        )
    return errors.BadInput(
        f"{name}: there is no {page}, or it is private: check the name, or {LOGIN}"
    )
