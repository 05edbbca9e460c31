"""Saving, restoring and verifying the checkpoints of a run."""
