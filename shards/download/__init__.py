"""The download: mirrors, resume, checksums."""
