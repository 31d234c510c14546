"""Comparing masks, where a mask is unsure, and what a person has reviewed."""
