"""Brush, fill and cleanup of a mask."""
