"""Trained parameters from any source: find, read, fit to a model, resize, save."""
