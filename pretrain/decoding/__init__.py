"""Decoding: the catalogue's trie, beam search constrained to it, and diverse beam search."""
