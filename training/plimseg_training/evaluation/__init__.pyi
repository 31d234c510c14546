__all__ = [
    "Evaluation",
    "EvaluationProgress",
    "ProtocolResult",
    "Score",
    "confusion_matrix",
    "evaluate",
    "model_with_classes",
    "parse_class_map",
    "predict_image",
]

from .metrics import (
    Score as Score,
)
from .metrics import (
    confusion_matrix as confusion_matrix,
)
from .predict import (
    predict_image as predict_image,
)
from .scoring import (
    Evaluation as Evaluation,
)
from .scoring import (
    EvaluationProgress as EvaluationProgress,
)
from .scoring import (
    ProtocolResult as ProtocolResult,
)
from .scoring import (
    evaluate as evaluate,
)
from .scoring import (
    model_with_classes as model_with_classes,
)
from .scoring import (
    parse_class_map as parse_class_map,
)
