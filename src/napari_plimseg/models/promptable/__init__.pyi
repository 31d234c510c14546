__all__ = [
    "WsiSam",
    "load_hint_model",
    "load_sam",
]

from .model_file import (
    load_hint_model as load_hint_model,
)
from .sam_weights import (
    load_sam as load_sam,
)
from .wsi_sam import (
    WsiSam as WsiSam,
)
