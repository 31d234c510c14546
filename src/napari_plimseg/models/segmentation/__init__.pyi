__all__ = [
    "DenseModel",
    "ZeroShotModel",
    "load_segmentation_model",
]

from .base import (
    DenseModel as DenseModel,
)
from .seg_model import (
    load_segmentation_model as load_segmentation_model,
)
from .zero_shot import (
    ZeroShotModel as ZeroShotModel,
)
