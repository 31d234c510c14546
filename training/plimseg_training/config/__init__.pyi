__all__ = [
    "DataConfig",
    "Device",
    "GateConfig",
    "Items",
    "MatchingConfig",
    "ModelName",
    "Number",
    "PseudoMaskConfig",
    "Recipe",
    "RecipeFile",
    "Seed",
    "Share",
    "StageConfig",
    "between",
    "chosen_recipe",
    "flat",
    "load_recipe",
    "multiple_of",
    "read_recipe_text",
    "recipes_folder",
    "section",
    "with_effort",
]

from .recipe import (
    DataConfig as DataConfig,
)
from .recipe import (
    Device as Device,
)
from .recipe import (
    GateConfig as GateConfig,
)
from .recipe import (
    MatchingConfig as MatchingConfig,
)
from .recipe import (
    ModelName as ModelName,
)
from .recipe import (
    PseudoMaskConfig as PseudoMaskConfig,
)
from .recipe import (
    Recipe as Recipe,
)
from .recipe import (
    Seed as Seed,
)
from .recipe import (
    Share as Share,
)
from .recipe import (
    StageConfig as StageConfig,
)
from .recipe import (
    load_recipe as load_recipe,
)
from .schema import (
    Items as Items,
)
from .schema import (
    Number as Number,
)
from .schema import (
    RecipeFile as RecipeFile,
)
from .schema import (
    between as between,
)
from .schema import (
    flat as flat,
)
from .schema import (
    multiple_of as multiple_of,
)
from .schema import (
    read_recipe_text as read_recipe_text,
)
from .schema import (
    section as section,
)
from .shipped import (
    chosen_recipe as chosen_recipe,
)
from .shipped import (
    recipes_folder as recipes_folder,
)
from .shipped import (
    with_effort as with_effort,
)
