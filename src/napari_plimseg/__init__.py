"""Tissue maps of whole H&E slides in napari, learned from words.

Importing this package imports neither torch, Qt nor napari.
"""

__version__ = "0.1.0"
