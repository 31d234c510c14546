__all__ = [
    "InspectSection",
]

from .section import (
    InspectSection as InspectSection,
)
