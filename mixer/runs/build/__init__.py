"""From the config to objects: the only reader of config keys. All that can be refused is, here."""

from mixer.runs.build.decoding import decoding_of
from mixer.runs.build.few_shot import FewShot
from mixer.runs.build.for_converting import Conversion, conversion
from mixer.runs.build.for_doctor import Checkup, checkup
from mixer.runs.build.for_plan import Planned, planned
from mixer.runs.build.for_preparation import preparation
from mixer.runs.build.for_reading import InputBenchmark, input_benchmark, sheet_reader
from mixer.runs.build.for_sweep import Sweep, Trial, sweep, vtab
from mixer.runs.build.for_trained import Trained, evaluations, few_shot, trained
from mixer.runs.build.for_training import Training, training
from mixer.runs.build.for_zoo import verification
from mixer.runs.build.parts import Evaluation, resolution
from mixer.runs.build.update import Update

__all__ = [
    "Checkup",
    "Conversion",
    "Evaluation",
    "FewShot",
    "InputBenchmark",
    "Planned",
    "Sweep",
    "Trained",
    "Training",
    "Trial",
    "Update",
    "checkup",
    "conversion",
    "decoding_of",
    "evaluations",
    "few_shot",
    "input_benchmark",
    "planned",
    "preparation",
    "resolution",
    "sheet_reader",
    "sweep",
    "trained",
    "training",
    "verification",
    "vtab",
]
