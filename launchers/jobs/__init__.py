"""Jobs: ranks on this machine, the entry point of a rank, recipes."""
