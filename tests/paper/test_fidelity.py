"""docs/fidelity.md: every line, test and recipe that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/fidelity.md").read_text()
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("| ")
][2:]


def test_there_are_a_hundred_different_claims():
    assert len(ROWS) >= 100
    claims = [row[0] for row in ROWS]
    assert len(set(claims)) == len(claims)
    assert all(len(row) == 5 and all(row) for row in ROWS)


def test_the_lines_of_code_exist():
    for claim, _, line, _, _ in ROWS:
        found = re.fullmatch(r"`([^`]+)`: `(.+)`", line)
        assert found, line
        path, code = found[1], found[2].replace(r"\|", "|")
        text = " ".join((ROOT / path).read_text().split())
        assert " ".join(code.split()) in text, f"{claim}: {path} has no {code!r}"


def test_the_tests_and_recipes_exist():
    for claim, _, _, shown, _ in ROWS:
        path, _, name = re.match(r"`([^`:]+)(::)?([^`]*)`", shown).groups()
        text = (ROOT / path).read_text()
        if name:
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{claim}: {shown}"
        else:
            assert "def get_config" in text and "run=" in shown, f"{claim}: {shown}"


def test_open_points_and_missing_runs_are_explained():
    assert {row[4] for row in ROWS} == {"shown", "open", "not run here"}
    assert sum(row[4] == "shown" for row in ROWS) > 70
