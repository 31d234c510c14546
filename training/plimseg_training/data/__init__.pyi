__all__ = [
    "IMAGE_SUFFIXES",
    "FolderReport",
    "TaggedFolder",
    "TaggedImage",
    "TrainingData",
    "class_fractions",
    "cut_patches",
    "has_part",
    "read_mask",
    "read_pixels",
    "read_rgb",
    "read_truth",
    "scan_folder",
    "window_grid",
]

from .cut import (
    cut_patches as cut_patches,
)
from .datasets import (
    TrainingData as TrainingData,
)
from .images import (
    IMAGE_SUFFIXES as IMAGE_SUFFIXES,
)
from .images import (
    read_mask as read_mask,
)
from .images import (
    read_rgb as read_rgb,
)
from .layouts import (
    has_part as has_part,
)
from .scan import (
    FolderReport as FolderReport,
)
from .scan import (
    scan_folder as scan_folder,
)
from .tagged_folder import (
    TaggedFolder as TaggedFolder,
)
from .tagged_folder import (
    TaggedImage as TaggedImage,
)
from .tagged_folder import (
    read_pixels as read_pixels,
)
from .tagged_folder import (
    read_truth as read_truth,
)
from .window_tags import (
    class_fractions as class_fractions,
)
from .window_tags import (
    window_grid as window_grid,
)
