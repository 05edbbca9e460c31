"""Fetches hf://ORG/REPO[/FILE][@REVISION] from the Hugging Face Hub with huggingface_hub.

The library handles the login (HF_TOKEN, `hf auth login`), HF_ENDPOINT, HF_HUB_OFFLINE and the cache
(HF_HUB_CACHE), which timm and transformers use too. A file in that cache is used without asking the
network, so a branch that moves does not change the weights of a run.
"""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mixer import errors
from mixer.storage import hub_access
from mixer.weights import formats

_FORM = "hf://ORG/REPO or hf://ORG/REPO/FILE, optionally with @REVISION at the end"
_ADDRESS = re.compile(r"hf://([^/@]+/[^/@]+)(?:/([^@]+))?(?:@(.+))?")


class NoSuchFile(errors.BadInput):
    """The repository does not have the file."""


class Unreachable(Exception):
    """The Hub does not answer, or HF_HUB_OFFLINE is set; the message gives the reason."""


class HubFile(NamedTuple):
    """A file of a model repository; `revision` is a branch, a tag or a commit."""

    repo: str
    name: str
    revision: str


def parse(address: str) -> HubFile:
    """The parts of an address; FILE defaults to "model.safetensors", REVISION to "main".

    Raises:
      BadInput: it has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or {"", ".", ".."} & set((found[2] or "-").split("/")):
        raise errors.BadInput(f"{address!r}: expected {_FORM}")
    first, _, rest = (found[3] or "").partition("/")
    if rest.lower().endswith(formats.ENDINGS):  # the library's own order
        meant = f"hf://{found[1]}/{rest}@{first}"
        raise errors.BadInput(f"{address!r}: expected the revision at the end, as in {meant}")
    return HubFile(found[1], found[2] or "model.safetensors", found[3] or "main")


def sibling(address: str, name: str) -> str | None:
    """The address of file `name` in a repository that is given without FILE; else None."""
    found = _ADDRESS.fullmatch(address)
    if found is None or found[2]:
        return None
    return f"hf://{found[1]}/{name}" + (f"@{found[3]}" if found[3] else "")


def fetch(address: str) -> Path:
    """The file in the Hub's cache, downloaded if it is not there yet.

    Raises:
      NoSuchFile: the repository does not have it.
      BadInput: the repository or revision does not exist, or this login may not read it; the cache
        cannot be written; or the library is not installed.
      Unreachable: no connection, or HF_HUB_OFFLINE is set.
    """
    repo, name, revision = parse(address)
    try:
        import huggingface_hub as hub  # only here: it is an optional dependency
        from huggingface_hub import constants
        from huggingface_hub import errors as hub_errors
    except ImportError:
        raise errors.BadInput(
            f"{address!r} needs the package huggingface_hub: pip install -r requirements-hub.txt"
        ) from None
    page, cache = f"{constants.ENDPOINT}/{repo}", constants.HF_HUB_CACHE
    try:
        kept = hub.try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(kept, str):
            return Path(kept)
        print(f"fetching {address} from {constants.ENDPOINT} to {cache}", flush=True)
        try:
            return Path(hub.hf_hub_download(repo, name, revision=revision))
        except hub_errors.LocalEntryNotFoundError as error:
            raise error.__cause__ or error from None  # why it could not ask the Hub
    except hub_errors.RepositoryNotFoundError as error:
        gated = isinstance(error, hub_errors.GatedRepoError)
        raise hub_access.refused(address, page, gated=gated) from None
    except hub_errors.RevisionNotFoundError:
        known = _listed(lambda: hub.list_repo_refs(repo))
        known = [ref.name for refs in vars(known).values() for ref in refs or ()] if known else []
        raise errors.unknown(f"revision of {page}", revision, known) from None
    except hub_errors.RemoteEntryNotFoundError:
        known = _listed(lambda: hub.list_repo_files(repo, revision=revision)) or []
        known = [file for file in known if file.lower().endswith(formats.ENDINGS)]
        raise NoSuchFile(str(errors.unknown(f"file of {page}", name, known))) from None
    except hub_errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise errors.BadInput(
                f"{address} may not be read (HTTP {status}): {hub_access.LOGIN}"
            ) from None
        raise Unreachable(f"the Hub answers HTTP {status}") from None
    except ValueError as error:  # an invalid name
        raise errors.BadInput(f"{address!r}: expected {_FORM}: {_line(error)}") from None
    except OSError as error:
        if error.errno is None:  # raised by the library itself
            raise Unreachable(_line(error)) from None
        raise errors.BadInput(
            f"the Hub's cache {cache} cannot be used: {error.strerror}. Set HF_HUB_CACHE to "
            f"another folder"
        ) from None
    except Exception as error:  # from the HTTP client
        raise Unreachable(_line(error)) from None


def _listed(ask: Callable[[], Any]) -> Any:
    """The Hub's answer, or None if it fails: it only improves an error message."""
    with contextlib.suppress(Exception):
        return ask()


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
