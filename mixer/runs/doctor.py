"""`config.run="doctor"`: what a run needs, looked at on every host before it is started.

It takes the command of the run, workdir and all, and leaves nothing in the workdir: no config, no
results. So the run that follows finds it as it was, and one that is under way there is let be.
"""

import json
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mixer import errors
from mixer.hosts import devices, exchange, peers, sharing
from mixer.runs.checkup import checkup_of
from mixer.runs.examination import SKEW, Examination

# One host's object -> those of all hosts, in their order.
Gather = Callable[[Any], list[Any]]
Verdict = tuple[bool, str]

# What all hosts must answer alike, and what to do where they do not.
_ALIKE = {
    "python": "set all hosts up in one way",
    "packages": "install the same wheels on all hosts",
    "devices": "start the command once on each host, all of one slice",
    "code": "copy the same commit to all hosts",
    "config": "give the same command on all hosts",
}


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Prints a line for each check, on the first host.

    Raises:
      Failure: names those that failed.
    """
    checkup = checkup_of(config, peers.count())
    (token, *_) = _gather(uuid.uuid4().hex)
    me = peers.index()
    examination = Examination(checkup, config, output, token, me, devices.accelerator())
    lines = verdicts(examination, _gather)
    for name, (good, text) in lines.items():
        print(f"{'ok' if good else 'failed':8}{name}: {text}", flush=True)
    if failed := [name for name, (good, _) in lines.items() if not good]:
        raise errors.Failure(f"{len(failed)} of {len(lines)} checks failed: {'; '.join(failed)}")


def _gather(one: Any) -> list[Any]:
    return [json.loads(text) for text in exchange.gather(json.dumps(one))]


def verdicts(examination: Examination, gather: Gather) -> dict[str, Verdict]:
    """By check, whether all hosts passed it, and what is said; the same on each host."""
    try:
        reports = gather({"host": socket.gethostname(), "findings": examination.findings()})
        now = time.time()  # the hosts leave the gathering at one moment
        written = all(report["findings"]["workdir"][0] for report in reports)
        sees = written and examination.sees(len(reports))
        later = gather({"time": now, "sees": sees})
    finally:
        examination.clean()
    hosts = [f"host {number} ({report['host']})" for number, report in enumerate(reports)]
    lines = {}
    for name in reports[0]["findings"]:
        found = [report["findings"].get(name, (False, "not in its config")) for report in reports]
        lines[name] = _together(name, found, hosts)
    if len(hosts) > 1:
        if lines["workdir"][0]:
            lines["shared workdir"] = _shared([report["sees"] for report in later], hosts)
        lines["clocks"] = _clocks([report["time"] for report in later], hosts)
    return lines


def _together(name: str, found: list[Verdict], hosts: list[str]) -> Verdict:
    """The verdict of all hosts on one check."""
    said = {}
    for host, (good, text) in zip(hosts, found, strict=True):
        said.setdefault((good, text if name in _ALIKE or not good else ""), []).append(host)
    if len(said) == 1:
        return found[0]
    bad = {text: where for (good, text), where in said.items() if not good}
    shown = bad or {text: where for (_, text), where in said.items()}
    parts = "; ".join(f"{text} on {', '.join(where)}" for text, where in shown.items())
    return False, parts if bad else f"{parts}: {_ALIKE[name]}"


def _shared(sees: list[bool], hosts: list[str]) -> Verdict:
    if all(sees):
        return True, "what one host writes, all see"
    blind = [host for host, seen in zip(hosts, sees, strict=True) if not seen]
    return False, f"what another host writes is not seen on {', '.join(blind)}: {sharing.MEND}"


def _clocks(times: list[float], hosts: list[str]) -> Verdict:
    apart = max(times) - min(times)
    if apart > SKEW:
        late, early = hosts[np.argmin(times)], hosts[np.argmax(times)]
        return False, f"{early} is {apart:,.0f} s ahead of {late}: set both by NTP"
    return True, f"at most {apart:.1f} s apart"
