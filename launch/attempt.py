"""main.py for launchers that go by the exit code alone, as Kubernetes and SkyPilot do.

    python launch/attempt.py --config=... --workdir=...

main.py also ends with 0 when it was stopped and has saved. Here that is 75 ("try again" in
sysexits.h), so the launcher starts the run again; 0 means that results.json is in the workdir.
All other codes are main.py's own: 2, for one, is bad input, which another attempt does not mend.
"""

import signal
import subprocess
import sys
from pathlib import Path

from etils import epath

_STOPPED = 75
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(arguments: list[str]) -> int:
    """Runs main.py with these arguments and returns the exit code; see above."""
    workdirs = [a.partition("=")[2] for a in arguments if a.startswith("--workdir=")]
    if not workdirs or not workdirs[-1]:
        print(
            "error: --workdir=DIR is missing, which tells when the run is complete", file=sys.stderr
        )
        return 2
    run = subprocess.Popen([sys.executable, Path(__file__).parents[1] / "main.py", *arguments])
    for number in _FORWARDED:
        signal.signal(number, lambda number, _: run.send_signal(number))
    code = run.wait()
    if code < 0:  # killed by a signal
        return 128 - code
    if code == 0 and not (epath.Path(workdirs[-1]).expanduser() / "results.json").exists():
        return _STOPPED
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
