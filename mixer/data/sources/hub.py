"""`hf:ORG/NAME`: a data set of the Hugging Face Hub, fetched once by the Hub's own library.

The library handles the login (HF_TOKEN, `hf auth login`), HF_ENDPOINT, HF_HUB_OFFLINE and the cache
(HF_HUB_CACHE), which its other programs use too. Each host fetches all files of the data set.
"""

import dataclasses
import functools
import re
from pathlib import Path
from types import ModuleType

from mixer import errors
from mixer.data.sources import parquet, webdataset
from mixer.data.sources.collection import Collection
from mixer.storage import hub_access

_FORM = "hf:ORG/NAME or hf:ORG/NAME/FOLDER, optionally with @REVISION at the end"
_ADDRESS = re.compile(r"(?://)?([\w.-]+/[\w.-]+)(?:/([^@]+))?(?:@(.+))?")
_KINDS = {".parquet": parquet, ".tar": webdataset}
_CONVERTED = "refs/convert/parquet"  # where the Hub itself puts tables of other forms


def split_names(path: str) -> set[str]:
    """The splits that the names of the files tell."""
    kind, folder = _fetched(path)
    return kind.split_names(folder)


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """The Parquet files of a repository, else its tars, else the tables that the Hub made of it.

    Raises:
      BadInput: there are none, this login may not read them, or what reading them raises.
      Failure: the Hub cannot be reached.
    """
    kind, folder = _fetched(path)
    found = kind.collect(folder, image_key, label_key)
    return dataclasses.replace(found, name=f"hf:{path}")


@functools.lru_cache(maxsize=8)
def _fetched(path: str) -> tuple[ModuleType, str]:
    """What reads the files, and the folder in the Hub's cache that has them."""
    found = _ADDRESS.fullmatch(path)
    if found is None:
        raise errors.BadInput(f"dataset 'hf:{path}': expected {_FORM}")
    repo, folder, revision = found[1], found[2] or "", found[3]
    for branch in (revision,) if revision else ("main", _CONVERTED):
        place = Path(_snapshot(f"hf:{path}", repo, folder, branch)) / folder
        for ending, kind in _KINDS.items():
            if any(place.rglob(f"*{ending}")):
                return kind, str(place)
    raise errors.BadInput(
        f"dataset 'hf:{path}' has no {' and no '.join(_KINDS)} files"
        f"{f' in the folder {folder}' if folder else ''}: expected a data set of images in one of "
        f"these forms"
    )


def _snapshot(name: str, repo: str, folder: str, revision: str) -> str:
    try:
        import huggingface_hub as hub  # only here: it is an optional dependency
        from huggingface_hub import constants
        from huggingface_hub import errors as hub_errors
    except ImportError:
        raise errors.needs_package(f"dataset {name!r}", "huggingface_hub", "hub") from None
    page = f"{constants.ENDPOINT}/datasets/{repo}"
    above = f"{folder}/" if folder else ""
    print(f"{name}: fetching what is not yet in {constants.HF_HUB_CACHE}", flush=True)
    try:
        return hub.snapshot_download(
            repo,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[f"{above}*{ending}" for ending in _KINDS],
        )
    except hub_errors.RepositoryNotFoundError as error:
        gated = isinstance(error, hub_errors.GatedRepoError)
        raise hub_access.refused(name, page, gated=gated) from None
    except hub_errors.RevisionNotFoundError:
        if revision == _CONVERTED:
            raise errors.BadInput(
                f"{name}: {page} has neither {' nor '.join(_KINDS)} files, and the Hub has made "
                f"no tables of it"
            ) from None
        raise errors.BadInput(f"{name}: {page} has no revision {revision!r}") from None
    except Exception as error:  # of the library, the disk or the HTTP client
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.Failure(
            f"{name} cannot be fetched to {constants.HF_HUB_CACHE}: {reason}. The same command "
            f"continues"
        ) from None
