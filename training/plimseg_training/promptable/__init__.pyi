__all__ = [
    "HintRecipe",
    "hint_recipes",
    "is_hint_recipe",
    "load_hint_recipe",
    "objects_of",
    "train_hint_recipe",
]

from .config import (
    HintRecipe as HintRecipe,
)
from .config import (
    hint_recipes as hint_recipes,
)
from .config import (
    is_hint_recipe as is_hint_recipe,
)
from .config import (
    load_hint_recipe as load_hint_recipe,
)
from .training import (
    objects_of as objects_of,
)
from .training import (
    train_hint_recipe as train_hint_recipe,
)
