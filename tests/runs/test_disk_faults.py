"""One call to the disk fails under a run; `tools/disk_faults.py` makes any of them fail."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# (ERROR, CALL, PATH): call number CALL, counted among those whose path begins with PATH, fails with
# ERROR; whether the run ends by it.
SAVING = "run/checkpoints/2.orbax-checkpoint-tmp"
FAULTS = {
    ("EIO", 1, f"{SAVING}/params"): True,  # the making of a folder, for which other threads wait
    ("ENOSPC", 20, f"{SAVING}/opt_state"): True,  # among the arrays
    ("EIO", 2, "run/.replaced"): False,  # the removal of what a checkpoint has replaced
    ("ENOSPC", 3, "run/.results.json"): True,  # fsync
}


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library")
@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="compiles it")
def test_a_fault_is_one_line_and_the_same_command_resumes(tmp_path):
    faults = ",".join(f"{error}:{call}:{begins}" for error, call, begins in FAULTS)
    command = [sys.executable, "tools/disk_faults.py", f"--workdir={tmp_path}/w"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    tool = subprocess.run(
        [*command, f"--faults={faults}"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert tool.returncode == 0, tool.stdout + tool.stderr
    lines = (tmp_path / "w" / "once.jsonl").read_text().splitlines()
    for found, (fault, ends) in zip(map(json.loads, lines), FAULTS.items(), strict=True):
        assert found["fault"] == list(fault) and found["path"].startswith(fault[2])
        assert found["code"] == ends, found
