"""Training: schedules, optimizers, losses, the training step and the loop around it."""
