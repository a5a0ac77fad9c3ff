"""SLURM, and the job that nobody disturbed, as the system tests have them."""

from slurm_cluster import slurm  # noqa: F401
from slurm_runs import runs, whole  # noqa: F401
