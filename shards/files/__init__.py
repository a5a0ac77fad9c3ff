"""Files: whole or not at all, local or remote, locked, and as tables."""
