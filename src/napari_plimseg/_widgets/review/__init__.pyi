__all__ = [
    "CleanupOperation",
    "ReviewDock",
]

from .correct.cleanup_panel import (
    CleanupOperation as CleanupOperation,
)
from .dock import (
    ReviewDock as ReviewDock,
)
