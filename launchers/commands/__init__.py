"""The commands of `idgenrec`."""
