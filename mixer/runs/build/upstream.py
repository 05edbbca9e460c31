"""What `config.init_from` names."""

from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import arrays, download, pretrained
from mixer.checkpoint.located import locate
from mixer.checkpoint.pretrained import Card
from mixer.runs.build.parts import resolution


def init_step(config: ConfigDict) -> int | str | None:
    """`config.init_step`: "best", a number, or None for the newest.

    Raises:
      BadInput: something else.
    """
    asked = config.init_step
    if asked in ("", "best"):
        return asked or None
    if not asked.isdigit():
        raise errors.BadInput(f"config.init_step={asked!r}: expected best, a number, or nothing")
    return int(asked)


def check_no_secret(path: str) -> None:
    """Refuses an address with a password, which config.json and messages would show.

    Raises:
      BadInput: it has one; the message does not.
    """
    if (shown := download.without_login(path)) != path:
        raise errors.BadInput(
            f"config.init_from={shown!r} was given with a user and a password, which config.json "
            f"would keep: fetch the file by hand and give it, or leave them out"
        )


def upstream_of(config: ConfigDict) -> tuple[dict, dict | None]:
    """What results.json says of `init_from`; with a workdir, its checkpoint's meta."""
    path = config.init_from
    check_no_secret(path)
    keys = ("model", "dataset", "epochs", "resolution", "device_days", "path", "sha256")
    located = locate(path)
    if located.is_file:
        known = {"path": path, "sha256": located.sha256 or arrays.sha256(located.path)}
        if entry := located.entry:
            known |= {"model": path.partition(":")[0], "dataset": entry.dataset}
            known |= {"resolution": resolution(entry.image_size)}
        if folder := located.folder:
            known |= {"model": folder.model}
            known |= {"resolution": folder.image_size and resolution(folder.image_size)}
        return dict.fromkeys(keys) | known, None
    meta = pretrained.read_meta(path, init_step(config))
    card = Card.from_json(meta["card"])
    known = {
        "model": card.model["name"],
        "dataset": card.dataset,
        "epochs": meta["epochs"],
        "resolution": resolution(card.image_size),
        "device_days": meta["device_days"],
        "path": path,
    }
    return dict.fromkeys(keys) | known, meta
