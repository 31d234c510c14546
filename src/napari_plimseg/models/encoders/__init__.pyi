__all__ = [
    "BUNDLED",
    "BUNDLED_WEIGHTS_FILE",
    "CARDS",
    "CONFIG_FILE",
    "SMALL",
    "TISSUE_FILE",
    "TOKENIZER_FILE",
    "WEIGHT_FILES",
    "WEIGHT_SUFFIXES",
    "Allowed",
    "Backbone",
    "EncoderCard",
    "EncoderName",
    "ImageTextEncoder",
    "backbone_shapes",
    "built_for",
    "bundled_folder",
    "bytes_here",
    "card_titled",
    "check_settings",
    "damage",
    "empty_backbone",
    "encoders_folder",
    "folder_of",
    "is_begun",
    "is_encoder_name",
    "load_backbone",
    "load_encoder",
    "loadable_name",
    "missing_files",
    "sam_vision_encoder",
    "shapes_of",
    "tiny_vit",
    "without_path",
]

from .base import (
    Backbone as Backbone,
)
from .base import (
    ImageTextEncoder as ImageTextEncoder,
)
from .cards import (
    BUNDLED as BUNDLED,
)
from .cards import (
    BUNDLED_WEIGHTS_FILE as BUNDLED_WEIGHTS_FILE,
)
from .cards import (
    CARDS as CARDS,
)
from .cards import (
    CONFIG_FILE as CONFIG_FILE,
)
from .cards import (
    SMALL as SMALL,
)
from .cards import (
    TISSUE_FILE as TISSUE_FILE,
)
from .cards import (
    TOKENIZER_FILE as TOKENIZER_FILE,
)
from .cards import (
    WEIGHT_FILES as WEIGHT_FILES,
)
from .cards import (
    WEIGHT_SUFFIXES as WEIGHT_SUFFIXES,
)
from .cards import (
    EncoderCard as EncoderCard,
)
from .cards import (
    EncoderName as EncoderName,
)
from .cards import (
    bundled_folder as bundled_folder,
)
from .cards import (
    bytes_here as bytes_here,
)
from .cards import (
    card_titled as card_titled,
)
from .cards import (
    damage as damage,
)
from .cards import (
    encoders_folder as encoders_folder,
)
from .cards import (
    folder_of as folder_of,
)
from .cards import (
    is_begun as is_begun,
)
from .cards import (
    is_encoder_name as is_encoder_name,
)
from .cards import (
    loadable_name as loadable_name,
)
from .cards import (
    missing_files as missing_files,
)
from .cards import (
    without_path as without_path,
)
from .external import (
    built_for as built_for,
)
from .external import (
    sam_vision_encoder as sam_vision_encoder,
)
from .external import (
    shapes_of as shapes_of,
)
from .external import (
    tiny_vit as tiny_vit,
)
from .loading import (
    backbone_shapes as backbone_shapes,
)
from .loading import (
    empty_backbone as empty_backbone,
)
from .loading import (
    load_backbone as load_backbone,
)
from .loading import (
    load_encoder as load_encoder,
)
from .specs import (
    Allowed as Allowed,
)
from .specs import (
    check_settings as check_settings,
)
