"""Export: a checkpoint as Hugging Face folders with model cards, and interpolated checkpoints."""
