"""Scores of masks and models against truth."""
