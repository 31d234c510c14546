__all__ = [
    "CorrectSection",
    "EditTarget",
]

from .painter import (
    EditTarget as EditTarget,
)
from .section import (
    CorrectSection as CorrectSection,
)
