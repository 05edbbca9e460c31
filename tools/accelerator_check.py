"""Checks and measures one machine with an accelerator, in eight minutes if all goes well.

    python tools/accelerator_check.py --workdir=runs/accelerator

In turn: doctor; forward parity with the CPU of this machine, in float32; the rates of Mixer-B/16
and L/16 (images/s, share of the peak, at the best batch size) in the default precision; a profile
of a few training steps; a quickstart that begins on the CPU, is stopped, and resumes on the
accelerator; and our steps beside the paper's listing and, with torch and timm installed, timm's,
compiled, in one process (tools/step_speed.py). Each part is a command of its own, with a time
limit, so one that fails does not take the others with it. WORKDIR/report.json and report.md say
what came out.

--smoke does all that with tiny models wherever it runs, to test this script.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the package need not be installed

import mixer  # noqa: E402


def parity(name: str, size: int) -> dict:
    """Float32 logits of the same random weights and images on this accelerator and on the CPU."""
    model = mixer.create_model(name, num_classes=1000)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (4, size, size, 3)).astype(np.float32)
    logits = []
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        with jax.default_device(device), jax.default_matmul_precision("float32"):
            params = jax.jit(model.init)(jax.random.key(0), images[:1])["params"]
            kernel = params["head"]["kernel"]  # is zero at the start of a training
            weights = np.random.default_rng(1).normal(size=kernel.shape).astype(np.float32)
            params["head"]["kernel"] = weights
            apply = jax.jit(lambda params, images: model.apply({"params": params}, images))
            logits.append(np.asarray(apply(params, images)))
    return {
        "device_kind": jax.devices()[0].device_kind,
        "largest_difference": float(np.abs(logits[0] - logits[1]).max()),
        "largest_logit": float(np.abs(logits[0]).max()),
    }


@dataclasses.dataclass
class Check:
    """Runs the parts and collects what they say."""

    workdir: Path
    smoke: bool
    report: dict = dataclasses.field(default_factory=dict)

    def part(self, name: str, work: Callable[[], dict]) -> None:
        """Does one part; what goes wrong with it is in the report."""
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            found = work()
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            found = {"failed": str(error)[-2000:]}
        self.report[name] = found | {"seconds": round(time.monotonic() - began, 1)}
        text = json.dumps(self.report, indent=2)
        (self.workdir / "report.json").write_text(text)
        (self.workdir / "report.md").write_text(markdown(self.report))

    def command(self, arguments: list[str], seconds: float, **environment: str) -> str:
        """What a command prints.

        Raises:
          CalledProcessError, TimeoutExpired: it fails, or takes longer.
        """
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            timeout=seconds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(done.stdout, flush=True)
        if done.returncode:
            last = done.stdout.strip().splitlines()[-3:]
            raise ValueError(f"exit {done.returncode}: {' '.join(last)}")
        return done.stdout

    def run(self, recipe: str, folder: str, *keys: str, seconds: float = 240, **environment: str):
        """results.json of a run of main.py."""
        path = self.workdir / folder
        flags = [f"--config={recipe}", f"--workdir={path}", *(f"--config.{key}" for key in keys)]
        self.command(["main.py", *flags], seconds, **environment)
        return json.loads((path / "results.json").read_text())

    def doctor(self) -> dict:
        """The machine."""
        path = self.workdir / "doctor"
        said = self.command(
            ["main.py", "--config=quickstart", f"--workdir={path}", "--config.run=doctor"], 120
        )
        return {"said": said.strip().splitlines()}

    def parity(self) -> dict:
        """Logits here and on the CPU."""
        name, size = ("Mixer-S/32", 64) if self.smoke else ("Mixer-B/16", 224)
        said = self.command([__file__, "--parity", name, str(size)], 180)
        found = json.loads(said.splitlines()[-1])
        if found["largest_difference"] > 1e-3 * found["largest_logit"]:
            raise ValueError(f"logits differ: {found}")
        return found

    def rates(self) -> dict:
        """Images/s and the share of the peak, inference and training."""
        models = "('Mixer-S/32',)" if self.smoke else "('Mixer-B/16', 'Mixer-L/16')"
        largest, patience = (2, 1.0) if self.smoke else (1024, 4.0)
        keys = [
            *("run=throughput", f"throughput.models={models}"),
            *(f"throughput.largest_batch={largest}", f"throughput.patience={patience}"),
        ]
        if self.smoke:
            keys.append("throughput.resolutions=(64,)")
        results = self.run("imagenet:Mixer-B/16", "rates", *keys, seconds=300)
        wanted = ("device_kind", "devices", "precision")
        return {key: results[key] for key in wanted} | results["metrics"]

    def profile(self) -> dict:
        """A trace of training steps."""
        results = self.run("imagenet:smoke", "profile", "runtime.profile=5-8")
        files = [str(f) for f in (self.workdir / "profile" / "profile").rglob("*") if f.is_file()]
        if not files:
            raise ValueError("no trace was written")
        return {"trace": files[0], "images_per_second": results["images_per_second_per_device"]}

    def resumed(self) -> dict:
        """A run that begins on the CPU and ends here."""
        path, total = self.workdir / "resumed", "60 steps" if self.smoke else "1123 steps"
        flags = ["--config=quickstart", f"--workdir={path}", f"--config.total={total}"]
        flags += ["--config.schedule.warmup=10 steps", "--config.runtime.checkpoint_every=20 steps"]
        begun = subprocess.Popen(
            [sys.executable, "main.py", *flags],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        deadline = time.monotonic() + 120
        while not (path / "checkpoints" / "20").exists() and begun.poll() is None:
            if time.monotonic() > deadline:
                begun.kill()
                raise ValueError("no checkpoint within 120 s on the CPU")
            time.sleep(0.2)
        begun.send_signal(signal.SIGTERM)
        begun.wait(60)
        said = self.command(["main.py", *flags], 240)
        line = next((each for each in said.splitlines() if "resuming from" in each), None)
        results = json.loads((path / "results.json").read_text())
        return {
            "resumed": line or "it was complete before it could be stopped",
            "device_kind": results["device_kind"],
            "top1": results["metrics"]["test/top1"],
        }

    def beside(self) -> dict:
        """Our steps beside the paper's listing and, where it is installed, timm's."""
        models, sizes = ("Mixer-S/32", "1") if self.smoke else ("Mixer-B/16", "128")
        flags = [f"--models={models}", f"--batch_sizes={sizes}", "--rounds=7"]
        said = self.command([str(ROOT / "tools" / "step_speed.py"), *flags], 240)
        return {"table": [line for line in said.splitlines() if line.startswith("|")]}


def markdown(report: dict) -> str:
    """A section for each part, its values as a table; a table that a part has made stays one."""
    lines = ["# What this accelerator does", ""]
    for name, found in report.items():
        lines += [f"## {name}", "", *found.get("table", []), "", "| | |", "| --- | --- |"]
        for key, value in found.items():
            shown = f"{value:,.5g}" if isinstance(value, float) else value
            shown = "<br>".join(map(str, value)) if isinstance(value, list) else shown
            lines += [] if key == "table" else [f"| {key} | {shown} |"]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Does all parts; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--parity", nargs=2, metavar=("MODEL", "SIZE"), help="only this, as JSON")
    parser.add_argument("--smoke", action="store_true", help="tiny models, on any machine")
    args = parser.parse_args()
    if args.parity:
        print(json.dumps(parity(args.parity[0], int(args.parity[1]))))
        return 0
    if not args.workdir:
        parser.error("--workdir is missing")
    workdir = args.workdir.expanduser().absolute()
    if workdir.exists() and any(workdir.iterdir()):
        print(f"error: --workdir={workdir} is not empty", file=sys.stderr)
        return 2
    workdir.mkdir(parents=True, exist_ok=True)
    check = Check(workdir, args.smoke)
    parts = {
        "doctor": check.doctor,
        "parity with the CPU": check.parity,
        "rates": check.rates,
        "profile": check.profile,
        "begun on the CPU": check.resumed,
        "beside the listing and timm": check.beside,
    }
    for name, work in parts.items():
        check.part(name, work)
    print((workdir / "report.md").read_text())
    failed = [name for name, found in check.report.items() if "failed" in found]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
