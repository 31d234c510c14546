__all__ = [
    "BUDGET_BYTES",
    "IGNORED",
    "STUDENT_WIDTH",
    "DistillTask",
    "Encoders",
    "Flip",
    "SegmentationTask",
    "Stage1Task",
    "Stage2Task",
    "Targets",
    "WordScores",
    "agreement",
    "allowed_classes",
    "as_mask_ids",
    "coverage",
    "fitted_gate",
    "gated_logits",
    "label_scores",
    "probabilities_of",
    "pseudo_mask",
    "stain_jitter",
    "to_unit",
    "write_pseudo_mask",
]

from .class_gate import (
    fitted_gate as fitted_gate,
)
from .class_gate import (
    gated_logits as gated_logits,
)
from .common import (
    SegmentationTask as SegmentationTask,
)
from .distillation import (
    STUDENT_WIDTH as STUDENT_WIDTH,
)
from .distillation import (
    DistillTask as DistillTask,
)
from .features import (
    BUDGET_BYTES as BUDGET_BYTES,
)
from .features import (
    to_unit as to_unit,
)
from .pseudo_masks import (
    IGNORED as IGNORED,
)
from .pseudo_masks import (
    Targets as Targets,
)
from .pseudo_masks import (
    as_mask_ids as as_mask_ids,
)
from .pseudo_masks import (
    coverage as coverage,
)
from .pseudo_masks import (
    probabilities_of as probabilities_of,
)
from .pseudo_masks import (
    pseudo_mask as pseudo_mask,
)
from .pseudo_masks import (
    write_pseudo_mask as write_pseudo_mask,
)
from .samples import (
    Flip as Flip,
)
from .samples import (
    stain_jitter as stain_jitter,
)
from .stage1 import (
    Encoders as Encoders,
)
from .stage1 import (
    Stage1Task as Stage1Task,
)
from .stage2 import (
    Stage2Task as Stage2Task,
)
from .tag_agreement import (
    TRUSTED as TRUSTED,
)
from .tag_agreement import (
    agreement as agreement,
)
from .tag_agreement import (
    agreements as agreements,
)
from .window_pooling import (
    allowed_classes as allowed_classes,
)
from .words import (
    ModelScores as ModelScores,
)
from .words import (
    WordScores as WordScores,
)
from .words import (
    label_scores as label_scores,
)
from .words import (
    opinions as opinions,
)
