"""Read back: each sample exactly once per epoch, for any number of ranks and workers, resumable at a sample."""
