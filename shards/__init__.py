"""shards: raw reviews in, WebDataset tars out.

No model, no process group and no global random state live here; rank and world size are arguments. The words that every
other room speaks are in `records.py`, the one call that builds a shard folder is `build/build.py`, and
`stream/stream.py` and `tables.py` read it back.
"""
