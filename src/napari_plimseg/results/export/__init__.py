"""Every way out of the program: label TIFF, GeoJSON, CSV and overlay picture.

The names load on first use: listing the formats needs none of the libraries that write them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
