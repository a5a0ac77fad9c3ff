"""What would go wrong before it does."""
