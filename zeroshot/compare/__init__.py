"""Runs side by side, seeds pooled."""
