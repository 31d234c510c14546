__all__ = [
    "KNOWN_FORMATS",
    "MAX_SEGMENT_BYTES",
    "NDPI_FILTER_SET",
    "Directory",
    "FileKind",
    "check_dicom",
    "check_tiff",
    "dicom_files",
    "encoded_shape",
    "identify",
    "misnamed",
    "read_head",
    "tiff_vendor",
]

from .dicom import (
    check_dicom as check_dicom,
)
from .files import (
    KNOWN_FORMATS as KNOWN_FORMATS,
)
from .files import (
    MAX_SEGMENT_BYTES as MAX_SEGMENT_BYTES,
)
from .files import (
    FileKind as FileKind,
)
from .files import (
    check_tiff as check_tiff,
)
from .files import (
    dicom_files as dicom_files,
)
from .files import (
    encoded_shape as encoded_shape,
)
from .files import (
    identify as identify,
)
from .files import (
    misnamed as misnamed,
)
from .files import (
    read_head as read_head,
)
from .files import (
    tiff_vendor as tiff_vendor,
)
from .tiff import (
    NDPI_FILTER_SET as NDPI_FILTER_SET,
)
from .tiff import (
    Directory as Directory,
)
