"""The audit: leakage, exposure, order, published data."""
