"""The build: raw data are cleaned, split and fused, and written as tars, tables, manifest and data card."""
