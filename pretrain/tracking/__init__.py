"""Tracking: JSON lines first, MLflow second."""
