"""Histories to ranked lists, and the metrics of the ranks."""
