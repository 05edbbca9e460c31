"""Trained parameters from any source: found, read, fitted to a model, resized, saved."""
