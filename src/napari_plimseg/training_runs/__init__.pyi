__all__ = [
    "EFFORTS",
    "LABEL_SOURCES",
    "Event",
    "EventKind",
    "FolderFacts",
    "FolderProblem",
    "KnownRun",
    "Point",
    "RunFolder",
    "RunHistory",
    "RunStatus",
    "SlideMask",
    "State",
    "TagTable",
    "TrainingPlan",
    "TrainingProcess",
    "TrainingRequest",
    "TrainingState",
    "cut_slides",
    "following",
    "list_runs",
    "map_arguments",
    "name_problem",
    "new_run_folder",
    "run_command",
    "training_program",
    "usable_name",
]

from .events import (
    Event as Event,
)
from .events import (
    EventKind as EventKind,
)
from .folder_facts import (
    FolderFacts as FolderFacts,
)
from .folder_facts import (
    FolderProblem as FolderProblem,
)
from .folder_facts import (
    TrainingPlan as TrainingPlan,
)
from .folder_facts import (
    following as following,
)
from .history import (
    Point as Point,
)
from .history import (
    RunHistory as RunHistory,
)
from .process import (
    EFFORTS as EFFORTS,
)
from .process import (
    LABEL_SOURCES as LABEL_SOURCES,
)
from .process import (
    TrainingProcess as TrainingProcess,
)
from .process import (
    TrainingRequest as TrainingRequest,
)
from .process import (
    TrainingState as TrainingState,
)
from .process import (
    map_arguments as map_arguments,
)
from .process import (
    run_command as run_command,
)
from .process import (
    training_program as training_program,
)
from .run_folder import (
    KnownRun as KnownRun,
)
from .run_folder import (
    RunFolder as RunFolder,
)
from .run_folder import (
    RunStatus as RunStatus,
)
from .run_folder import (
    list_runs as list_runs,
)
from .run_folder import (
    name_problem as name_problem,
)
from .run_folder import (
    new_run_folder as new_run_folder,
)
from .run_folder import (
    usable_name as usable_name,
)
from .slide_patches import (
    SlideMask as SlideMask,
)
from .slide_patches import (
    cut_slides as cut_slides,
)
from .tag_table import (
    State as State,
)
from .tag_table import (
    TagTable as TagTable,
)
