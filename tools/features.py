"""Shows what there is, line by line: docs/results/features.csv, for the table in docs/features.md.

    python tools/features.py [--timm=PYTHON] [--only=PATTERN]
    python tools/results.py

Runs the commands of tools/features.toml in an empty folder, a minute or less each. PYTHON is an
interpreter with the package timm, which runs the code beside them; without it, that column stays as
it is.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

from tools.csv_tables import read, write

ROOT = Path(__file__).parents[1]
SCRIPT = "script: "


def works(command: list[str], folder: str) -> bool:
    """Whether a command succeeds in this folder; what it says is shown if it does not."""
    found = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    if found.returncode:
        print("\n".join(found.stdout.splitlines()[-12:]), flush=True)
    return found.returncode == 0


def ours(command: str, folder: str) -> bool:
    """Whether a command line of bash succeeds, with `mixer` as the command of this clone."""
    mixer = f'mixer() {{ "{sys.executable}" "{ROOT}/main.py" "$@"; }}'
    python = f'python() {{ PYTHONPATH="{ROOT}" "{sys.executable}" "$@"; }}'
    lines = f"{mixer}\n{python}\nCLONE={ROOT}\n{command}"
    return works(["bash", "-euo", "pipefail", "-c", lines], folder)


def timms(code: str, python: str, folder: str) -> str:
    """yes, no, or the script of timm's repository that does it, which is not run here."""
    if code.startswith(SCRIPT):
        return code.removeprefix(SCRIPT)
    return "yes" if code and works([python, "-W", "ignore", "-c", code], folder) else "no"


def line(row: dict[str, str], mine: str, theirs: str) -> dict[str, str]:
    """A line of features.csv."""
    return {key: row[key] for key in ("group", "what", "run")} | {"ours": mine, "timm": theirs}


def main() -> None:
    """Runs the lines and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timm", default="", help="an interpreter with timm")
    parser.add_argument("--only", default="", help="run only the lines that match this pattern")
    args = parser.parse_args()
    asked = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    found = {line["what"]: (line["ours"], line["timm"]) for line in read("features")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFDS_DATA_DIR"] = f"{folder}/tfds"
        if not ours(asked["setup"], folder):
            raise SystemExit("the setup failed")
        for row in asked["row"]:
            what, began = row["what"], time.monotonic()
            if not re.search(args.only, f"{row['group']}: {what}"):
                continue
            mine, theirs = found.get(what, ("", ""))
            mine = "yes" if ours(row["run"], folder) else "no"
            theirs = timms(row["timm"], args.timm, folder) if args.timm else theirs
            print(f"{mine:3} {theirs:3} {time.monotonic() - began:3.0f} s  {what}", flush=True)
            found[what] = mine, theirs
            write(
                "features", [line(row, *found.get(row["what"], ("", ""))) for row in asked["row"]]
            )


if __name__ == "__main__":
    main()
