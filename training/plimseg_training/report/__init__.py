"""Report and preview pictures of a training."""
