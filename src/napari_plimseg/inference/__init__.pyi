__all__ = [
    "ENGINE",
    "GRID",
    "RUNNABLE",
    "Added",
    "CamFrame",
    "CamMaps",
    "CamTile",
    "ClusterChoice",
    "Cohort",
    "CohortItem",
    "CohortStep",
    "EmbeddingCache",
    "Hint",
    "HintMask",
    "HintSession",
    "ItemState",
    "Notice",
    "PatchPair",
    "Progress",
    "ProgressBar",
    "Proposal",
    "Refused",
    "RunRegion",
    "RunSettings",
    "SegmentationJob",
    "SlideDone",
    "SlideOpened",
    "SlidePlaces",
    "Workers",
    "available_devices",
    "describe_device",
    "distinct_stems",
    "is_finished",
    "load_torch_library",
    "open_store",
    "pick_device",
    "propose_regions",
    "regions_of_class",
    "results_stem",
    "segment_on_workers",
    "segment_slide",
    "thumbnail_of",
    "warm_up",
]

from .cams import (
    CamFrame as CamFrame,
)
from .cams import (
    CamMaps as CamMaps,
)
from .cams import (
    CamTile as CamTile,
)
from .cluster.choice import (
    ClusterChoice as ClusterChoice,
)
from .cluster.run import (
    segment_on_workers as segment_on_workers,
)
from .cluster.workers import (
    Workers as Workers,
)
from .cohort import (
    RUNNABLE as RUNNABLE,
)
from .cohort import (
    Added as Added,
)
from .cohort import (
    Cohort as Cohort,
)
from .cohort import (
    CohortItem as CohortItem,
)
from .cohort import (
    CohortStep as CohortStep,
)
from .cohort import (
    ItemState as ItemState,
)
from .cohort import (
    thumbnail_of as thumbnail_of,
)
from .devices import (
    ENGINE as ENGINE,
)
from .devices import (
    available_devices as available_devices,
)
from .devices import (
    describe_device as describe_device,
)
from .devices import (
    load_torch_library as load_torch_library,
)
from .devices import (
    pick_device as pick_device,
)
from .engine import (
    is_finished as is_finished,
)
from .engine import (
    open_store as open_store,
)
from .engine import (
    segment_slide as segment_slide,
)
from .engine import (
    warm_up as warm_up,
)
from .job import (
    Notice as Notice,
)
from .job import (
    Refused as Refused,
)
from .job import (
    SegmentationJob as SegmentationJob,
)
from .job import (
    SlideDone as SlideDone,
)
from .job import (
    SlideOpened as SlideOpened,
)
from .names import (
    distinct_stems as distinct_stems,
)
from .names import (
    results_stem as results_stem,
)
from .plan import (
    RunRegion as RunRegion,
)
from .plan import (
    RunSettings as RunSettings,
)
from .progress import (
    Progress as Progress,
)
from .progress import (
    ProgressBar as ProgressBar,
)
from .promptable.embedding_cache import (
    EmbeddingCache as EmbeddingCache,
)
from .promptable.geometry import (
    GRID as GRID,
)
from .promptable.geometry import (
    Hint as Hint,
)
from .promptable.geometry import (
    HintMask as HintMask,
)
from .promptable.geometry import (
    PatchPair as PatchPair,
)
from .promptable.proposals import (
    Proposal as Proposal,
)
from .promptable.proposals import (
    propose_regions as propose_regions,
)
from .promptable.proposals import (
    regions_of_class as regions_of_class,
)
from .promptable.session import (
    HintSession as HintSession,
)
from .slide_places import (
    SlidePlaces as SlidePlaces,
)
