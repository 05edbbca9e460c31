"""The examples in the README work as printed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXTEND = (ROOT / "docs" / "extend.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.slow
def test_a_users_own_module(tmp_path, data_dir):
    (code,) = re.findall(r"```python\n(# my_lab\.py\n.*?)```", EXTEND, re.DOTALL)
    body = [line for line in code.splitlines()[1:] if line.strip()]
    assert len(body) <= 30
    (tmp_path / "my_lab.py").write_text(code)
    (command,) = re.findall(r"^    PYTHONPATH=\. python (.* --workdir=)\S+$", EXTEND, re.MULTILINE)
    workdir = tmp_path / "out"
    env = os.environ | {"PYTHONPATH": str(tmp_path), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *shlex.split(command + str(workdir))],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((workdir / "results.json").read_text())
    assert results["model"] == "Linear" and results["dataset"] == "stripes"
    assert results["metrics"] == {"test/error": 0.0}


def test_its_files_and_recipes_exist():
    for path in re.findall(r"\]\(((?:configs|mixer|tests)/[^)]+|[A-Z]+\.md)\)", README):
        assert (ROOT / path).exists(), path
    for room in re.findall(r"^(mixer/\w+(?:\.py|/))", README, re.MULTILINE):
        assert (ROOT / room).exists(), room
    named = set(re.findall(r"\[`(\w+)`\]\(configs/", README))
    recipes = {p.stem for p in (ROOT / "configs").glob("*.py") if "def get_config" in p.read_text()}
    assert named == recipes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page in their order, as one program, beside the notebook's images."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.chdir(tmp_path)
    program = {}
    for code in blocks:
        if not code.startswith("# my_lab.py"):  # has a test of its own
            exec(code, program)
    if "large" in program:
        parts = program["model"].tokens_mlp_dim, program["large"].tokens_mlp_dim
        assert parts[1] == 4 * parts[0], "as the page says"
    if "tokens" in program:
        assert program["tokens"].shape[1:] == (64, program["model"].hidden_dim)
