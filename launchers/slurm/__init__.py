"""SLURM: submitted, requeued, asked."""
