__all__ = [
    "FORMATS",
    "NAMESPACE",
    "Format",
    "Resolution",
    "export_all",
    "export_csv",
    "export_geojson",
    "export_label_tiff",
    "export_overlay",
    "export_stem",
    "iter_outlines",
    "overlay_picture",
    "read_label_tiff",
]

from .area_csv import (
    export_csv as export_csv,
)
from .formats import (
    FORMATS as FORMATS,
)
from .formats import (
    Format as Format,
)
from .formats import (
    Resolution as Resolution,
)
from .formats import (
    export_all as export_all,
)
from .formats import (
    export_stem as export_stem,
)
from .geojson import (
    export_geojson as export_geojson,
)
from .geojson import (
    iter_outlines as iter_outlines,
)
from .label_tiff import (
    NAMESPACE as NAMESPACE,
)
from .label_tiff import (
    export_label_tiff as export_label_tiff,
)
from .label_tiff import (
    read_label_tiff as read_label_tiff,
)
from .overlay import (
    export_overlay as export_overlay,
)
from .overlay import (
    overlay_picture as overlay_picture,
)
