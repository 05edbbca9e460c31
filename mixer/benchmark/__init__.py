"""Measurements of speed: of a model, and of the input pipeline."""
