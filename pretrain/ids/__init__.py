"""Textual IDs: the ID book, Algorithm 1 as a pure function, and the same over ranks."""
