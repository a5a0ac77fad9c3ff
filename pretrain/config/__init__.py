"""Configurations: frozen dataclasses that refuse unknown keys and impossible combinations when they are built."""
