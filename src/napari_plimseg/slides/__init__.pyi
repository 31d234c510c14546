__all__ = [
    "MPP_RANGE",
    "UNSCANNED",
    "WHITE",
    "Level",
    "PixelSizeConflict",
    "Region",
    "Slide",
    "TissueMask",
    "TissueMaskSettings",
    "display_levels",
    "filename_patterns",
    "find_reader",
    "is_label_tiff",
    "is_of_system",
    "open_slide",
    "resampling_weights",
    "slides_in",
    "usable_mpp",
]

from .display import (
    display_levels as display_levels,
)
from .opening import (
    filename_patterns as filename_patterns,
)
from .opening import (
    find_reader as find_reader,
)
from .opening import (
    is_of_system as is_of_system,
)
from .opening import (
    open_slide as open_slide,
)
from .opening import (
    slides_in as slides_in,
)
from .slide import (
    MPP_RANGE as MPP_RANGE,
)
from .slide import (
    UNSCANNED as UNSCANNED,
)
from .slide import (
    WHITE as WHITE,
)
from .slide import (
    Level as Level,
)
from .slide import (
    PixelSizeConflict as PixelSizeConflict,
)
from .slide import (
    Region as Region,
)
from .slide import (
    Slide as Slide,
)
from .slide import (
    resampling_weights as resampling_weights,
)
from .slide import (
    usable_mpp as usable_mpp,
)
from .tissue_mask import (
    TissueMask as TissueMask,
)
from .tissue_mask import (
    TissueMaskSettings as TissueMaskSettings,
)
from .validation import (
    is_label_tiff as is_label_tiff,
)
