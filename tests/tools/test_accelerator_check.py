"""The report of the script for a lent accelerator: every part is in it, also one that failed."""

import json

from tools import accelerator_check


def test_a_part_that_fails_leaves_the_others(tmp_path):
    check = accelerator_check.Check(tmp_path, smoke=True)

    def fails():
        return {"said": check.command(["-c", "raise SystemExit('no such card')"], 30)}

    check.part("first", lambda: {"rate": 1234.5, "table": ["| a |", "| - |"]})
    check.part("second", fails)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["first"]["rate"] == 1234.5 and "no such card" in report["second"]["failed"]
    text = (tmp_path / "report.md").read_text()
    assert "| rate | 1,234.5 |" in text and "\n| a |\n| - |\n" in text and "## second" in text


def test_parity_with_itself():
    found = accelerator_check.parity("Mixer-S/32", 32)
    assert found["largest_difference"] <= 1e-5 * found["largest_logit"]
