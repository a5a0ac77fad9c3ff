"""Samples, prompts, user IDs and teaching targets as batches of tensors."""
