"""Training: the loop, the state of a run, engine, objectives, schedule, checkpoints, validation."""
