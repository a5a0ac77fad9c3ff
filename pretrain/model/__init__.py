"""The T5: built, loaded and frozen; its shape, its losses, its dropout, its soft IDs."""
