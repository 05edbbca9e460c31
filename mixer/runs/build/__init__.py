"""From the config to objects: the only reader of config keys. All that can be refused is, here."""

from mixer.runs.build.for_preparation import preparation
from mixer.runs.build.for_reading import InputBenchmark, input_benchmark, sheet_reader
from mixer.runs.build.for_trained import Trained, evaluations, trained
from mixer.runs.build.for_training import Training, training
from mixer.runs.build.parts import Evaluation, resolution

__all__ = [
    "Evaluation",
    "InputBenchmark",
    "Trained",
    "Training",
    "evaluations",
    "input_benchmark",
    "preparation",
    "resolution",
    "sheet_reader",
    "trained",
    "training",
]
