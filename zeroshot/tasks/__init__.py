"""Tasks: the six unseen sets and anyone's own, versioned."""
