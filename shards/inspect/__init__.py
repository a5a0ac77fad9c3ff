"""What a shard folder holds, and whether it is what its manifest says."""
