__all__ = [
    "KNOWN_FORMATS",
    "NDPI_FILTER_SET",
    "Directory",
    "FileKind",
    "ZarrArray",
    "check_companions",
    "check_dicom",
    "check_segment",
    "check_tiff",
    "check_zarr_array",
    "dicom_files",
    "encoded_shape",
    "identify",
    "is_label_tiff",
    "misnamed",
    "read_attributes",
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
    FileKind as FileKind,
)
from .files import (
    check_companions as check_companions,
)
from .files import (
    check_segment as check_segment,
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
    is_label_tiff as is_label_tiff,
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
from .zarr import (
    ZarrArray as ZarrArray,
)
from .zarr import (
    check_zarr_array as check_zarr_array,
)
from .zarr import (
    read_attributes as read_attributes,
)
