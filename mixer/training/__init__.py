"""From batches to parameters: durations, schedules, optimizers, the step, the loop."""
