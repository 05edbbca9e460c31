"""Evaluation of a model on a dataset: accuracy, calibration, few-shot accuracy."""
