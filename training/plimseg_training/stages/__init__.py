"""The stages of PLIMSeg: losses, CAMs, pseudo masks and the segmentation network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
