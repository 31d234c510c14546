"""Edits of a mask: fills, smoothing, components, refinement."""
