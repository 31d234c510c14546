"""Tissue maps of whole H&E slides in napari, learned from words.

The public names load on first use, so that importing the package imports neither torch, NumPy, Qt
nor napari. `__init__.pyi` lists them, for type checkers and for the loader alike.
"""

import lazy_loader

from napari_plimseg._version import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
