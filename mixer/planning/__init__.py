"""The cost of a training step before it runs: FLOPs, memory, traffic between devices."""
