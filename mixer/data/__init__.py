"""From files to batches. Nothing here imports JAX: Grain's worker processes load these modules."""
