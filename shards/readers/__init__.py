"""One file per raw format; every reader returns a `shards.records.RawDataset`."""
