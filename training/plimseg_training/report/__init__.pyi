__all__ = [
    "LivePreviews",
    "encoded",
    "folder_summary",
    "preview_sheet",
    "write_report",
]

from .previews import (
    LivePreviews as LivePreviews,
)
from .previews import (
    encoded as encoded,
)
from .previews import (
    preview_sheet as preview_sheet,
)
from .report import (
    folder_summary as folder_summary,
)
from .report import (
    write_report as write_report,
)
