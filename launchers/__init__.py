"""The door: the command line, the local spawner, the entry point of a rank."""
