__all__ = [
    "PromptSection",
]

from .section import (
    PromptSection as PromptSection,
)
