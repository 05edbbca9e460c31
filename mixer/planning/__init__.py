"""What a training needs, before it runs: FLOPs, memory, traffic between devices."""
