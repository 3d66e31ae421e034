"""The training loop and what it stands on: step, schedule, checkpoint, progress."""
