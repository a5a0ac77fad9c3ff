"""Ranks and collectives, interrupts, the watchdog, progress."""
