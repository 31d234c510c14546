"""Messages that several sections of the Review dock show."""

from __future__ import annotations

NO_MASK = "Generate a mask in the PLIMSeg dock, or open an exported label TIFF."
HIDDEN = "Corrections are hidden. Show them in the PLIMSeg dock first."
OFF_VIEW = "the mask is outside the current view"
MOVE_VIEW = "Move the view over the tissue."
