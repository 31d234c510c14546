__all__ = [
    "BUTTON_STYLE",
    "EngineWatch",
    "Phase",
    "PixelSizeRow",
    "PlimsegDock",
    "duration",
]

from .dock import (
    PlimsegDock as PlimsegDock,
)
from .run import (
    BUTTON_STYLE as BUTTON_STYLE,
)
from .run import (
    EngineWatch as EngineWatch,
)
from .run import (
    duration as duration,
)
from .slide_section import (
    PixelSizeRow as PixelSizeRow,
)
from .state import (
    Phase as Phase,
)
