__all__ = [
    "TagGallery",
    "TrainDock",
]

from .dock import (
    TrainDock as TrainDock,
)
from .tag_gallery import (
    TagGallery as TagGallery,
)
