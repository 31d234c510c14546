__all__ = [
    "Stopped",
    "World",
    "choose_precision",
    "learning_rate_factor",
    "reported_run",
    "train",
]

from .distributed import (
    World as World,
)
from .loop import (
    train as train,
)
from .reporter import (
    reported_run as reported_run,
)
from .step import (
    choose_precision as choose_precision,
)
from .step import (
    learning_rate_factor as learning_rate_factor,
)
from .task import (
    Stopped as Stopped,
)
