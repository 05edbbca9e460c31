"""Keeping parameters: the run's checkpoints, weights from elsewhere, fitting them to a model."""
