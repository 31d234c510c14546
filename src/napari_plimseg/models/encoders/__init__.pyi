__all__ = [
    "BUNDLED",
    "BUNDLED_WEIGHTS_FILE",
    "CARDS",
    "CONFIG_FILE",
    "SKIN_FILE",
    "SMALL",
    "TISSUE_FILE",
    "TOKENIZER_FILE",
    "TOKENIZER_FILES",
    "WEIGHT_FILES",
    "WEIGHT_SUFFIXES",
    "Allowed",
    "Backbone",
    "EncoderCard",
    "EncoderName",
    "ImageEncoder",
    "ImageTextEncoder",
    "backbone_shapes",
    "built_for",
    "bundled_folder",
    "bytes_here",
    "card_titled",
    "check_fit",
    "check_hash",
    "check_settings",
    "damage",
    "empty_backbone",
    "encoders_folder",
    "find_encoder",
    "folder_of",
    "hash_outside",
    "is_begun",
    "is_encoder_name",
    "is_known",
    "known_encoders",
    "load_backbone",
    "load_encoder",
    "load_matcher",
    "loadable_name",
    "missing_encoder",
    "missing_files",
    "remember",
    "sam_vision_encoder",
    "tiny_vit",
    "weight_file",
    "without_path",
]

from .base import (
    Backbone as Backbone,
)
from .base import (
    ImageEncoder as ImageEncoder,
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
    SKIN_FILE as SKIN_FILE,
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
    TOKENIZER_FILES as TOKENIZER_FILES,
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
    hash_outside as hash_outside,
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
    check_fit as check_fit,
)
from .external import (
    sam_vision_encoder as sam_vision_encoder,
)
from .external import (
    tiny_vit as tiny_vit,
)
from .known import (
    check_hash as check_hash,
)
from .known import (
    find_encoder as find_encoder,
)
from .known import (
    is_known as is_known,
)
from .known import (
    known_encoders as known_encoders,
)
from .known import (
    missing_encoder as missing_encoder,
)
from .known import (
    remember as remember,
)
from .known import (
    weight_file as weight_file,
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
from .loading import (
    load_matcher as load_matcher,
)
from .specs import (
    Allowed as Allowed,
)
from .specs import (
    check_settings as check_settings,
)
