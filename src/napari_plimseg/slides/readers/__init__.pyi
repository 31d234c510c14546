__all__ = [
    "OmeZarrSlide",
    "OpenSlideSlide",
    "PictureSlide",
    "TiffSlide",
    "open_dicom_folder",
]

from .omezarr import (
    OmeZarrSlide as OmeZarrSlide,
)
from .openslide import (
    OpenSlideSlide as OpenSlideSlide,
)
from .openslide import (
    open_dicom_folder as open_dicom_folder,
)
from .picture import (
    PictureSlide as PictureSlide,
)
from .tiff import (
    TiffSlide as TiffSlide,
)
