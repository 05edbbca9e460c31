"""Uploads a folder to the Hugging Face Hub with huggingface_hub, by the user's login."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from mixer import errors
from mixer.storage import hub_access

_FORM = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^@\s]+))?")


class Target(NamedTuple):
    """A model repository and its branch."""

    repo: str
    branch: str


def parse(text: str) -> Target:
    """The parts of ORG/NAME[@BRANCH]; the branch defaults to main.

    Raises:
      BadInput: it has another form.
    """
    found = _FORM.fullmatch(text.removeprefix("hf://"))
    if found is None:
        raise errors.BadInput(
            f"config.push={text!r}: expected ORG/NAME of the Hugging Face Hub, optionally with "
            f"@BRANCH at the end"
        )
    return Target(found[1], found[2] or "main")


def check(text: str) -> None:
    """Checks what can be checked without the network.

    Raises:
      BadInput: another form, no library, no login, or the Hub is switched off.
    """
    repo = parse(text).repo
    try:
        import huggingface_hub as hub  # only here and below: it is an optional dependency
        from huggingface_hub import constants
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError:
        raise errors.needs_package(f"config.push={text!r}", "huggingface_hub", "hub") from None
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise errors.BadInput(f"config.push={text!r}: {error}") from None
    if constants.HF_HUB_OFFLINE:
        raise errors.BadInput(f"config.push={text!r}: HF_HUB_OFFLINE is set")
    if not hub.get_token():
        raise errors.BadInput(
            f"config.push={text!r} needs a login that may write: {hub_access.LOGIN}"
        )


def push(folder: str, text: str) -> str:
    """Uploads the files of a folder as one commit, and returns its address.

    A repository that does not exist is created as a private one, and so is a branch.

    Raises:
      Failure: the Hub refuses it or does not answer. The folder stays.
    """
    import huggingface_hub as hub

    repo, branch = parse(text)
    try:
        hub.create_repo(repo, private=True, exist_ok=True)
        if branch != "main":
            hub.create_branch(repo, branch=branch, exist_ok=True)
        files = [
            hub.CommitOperationAdd(file.name, file)
            for file in sorted(Path(folder).expanduser().iterdir())
        ]
        made = hub.HfApi().create_commit(
            repo, files, commit_message=f"Upload {Path(folder).name}", revision=branch
        )
    except Exception as error:  # the library's own, and those of its HTTP client
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.Failure(
            f"{folder} is written, but {repo} could not be pushed to: {reason}. To try again: "
            f"{shlex.join(['hf', 'upload', repo, folder, f'--revision={branch}'])}"
        ) from None
    return made.commit_url
