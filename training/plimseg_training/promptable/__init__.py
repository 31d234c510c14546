"""Training of models for points and boxes."""
