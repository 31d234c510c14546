__all__ = [
    "ALWAYS",
    "BACKBONE",
    "BUNDLED",
    "BUNDLED_WEIGHTS_FILE",
    "CARDS",
    "CONFIG_FILE",
    "CONTEXT_LENGTH",
    "FAMILIARITY",
    "GUIDES",
    "HINT_MODEL_FILE",
    "NOT_INSTALLED",
    "PYRAMID_WIDTH",
    "RESERVED",
    "RESOLUTIONS",
    "SCALE_SUFFIX",
    "SHARPNESS",
    "SMALL",
    "SMALLEST_SIDE",
    "SURE",
    "TEMPLATES",
    "TOKENIZER_FILE",
    "TORCH",
    "WINDOW",
    "Acceleratable",
    "Backbone",
    "BackboneEncoder",
    "BundledClip",
    "BundledMatcher",
    "CamNet",
    "CamSource",
    "CamTarget",
    "ClassGate",
    "DecoderShape",
    "DenseImageTower",
    "DenseModel",
    "DenseNet121",
    "DenseNetBackbone",
    "DownloadProgress",
    "DualDecoder",
    "DualMasks",
    "Encoded",
    "EncoderCard",
    "EncoderName",
    "Engine",
    "EngineError",
    "EntryState",
    "Familiarity",
    "ImageTextEncoder",
    "Kind",
    "LayerNorm2d",
    "Matcher",
    "MiniLm",
    "ModelEntry",
    "ModelLibrary",
    "Offer",
    "PatchHints",
    "SegModel",
    "SegNet",
    "SegmentationHead",
    "SmallBackbone",
    "StageOneCams",
    "Surroundings",
    "Task",
    "TextAdapter",
    "TextCams",
    "TextTower",
    "WsiSam",
    "ZeroShotModel",
    "bundled_encoder",
    "bundled_folder",
    "bundled_identity",
    "check_weights",
    "decoder_of",
    "engines_for",
    "fresh_small_backbone",
    "gated",
    "has_bfloat16",
    "import_model",
    "import_weights",
    "is_encoder_name",
    "is_image_text",
    "list_models",
    "list_promptable_models",
    "load_backbone",
    "load_cam_model",
    "load_encoder",
    "load_hint_model",
    "load_matcher",
    "load_model",
    "load_model_file",
    "load_promptable_model",
    "load_sam",
    "log_odds",
    "logits_of",
    "make_torchvision_importable",
    "models_folder",
    "no_cam_of",
    "on_backbone",
    "quantized",
    "read_header",
    "read_shapes",
    "read_weights",
    "save_cam_model",
    "save_hint_model",
    "save_model",
    "save_segmentation_model",
    "segmentation_head",
    "segmentation_header",
    "shows_tissue",
    "text_prototypes",
    "why_not_remove",
    "windows_for",
]

from .acceleration import (
    NOT_INSTALLED as NOT_INSTALLED,
)
from .acceleration import (
    TORCH as TORCH,
)
from .acceleration import (
    Acceleratable as Acceleratable,
)
from .acceleration import (
    Engine as Engine,
)
from .acceleration import (
    EngineError as EngineError,
)
from .acceleration import (
    engines_for as engines_for,
)
from .acceleration import (
    has_bfloat16 as has_bfloat16,
)
from .class_gate import (
    ALWAYS as ALWAYS,
)
from .class_gate import (
    SHARPNESS as SHARPNESS,
)
from .class_gate import (
    ClassGate as ClassGate,
)
from .class_gate import (
    gated as gated,
)
from .class_gate import (
    log_odds as log_odds,
)
from .downloads import (
    DownloadProgress as DownloadProgress,
)
from .encoders.base import (
    SMALLEST_SIDE as SMALLEST_SIDE,
)
from .encoders.base import (
    Backbone as Backbone,
)
from .encoders.base import (
    ImageTextEncoder as ImageTextEncoder,
)
from .encoders.base import (
    Matcher as Matcher,
)
from .encoders.bundled import (
    BundledClip as BundledClip,
)
from .encoders.bundled import (
    DenseImageTower as DenseImageTower,
)
from .encoders.bundled import (
    bundled_encoder as bundled_encoder,
)
from .encoders.bundled import (
    bundled_identity as bundled_identity,
)
from .encoders.bundled_backbone import (
    BundledMatcher as BundledMatcher,
)
from .encoders.bundled_backbone import (
    DenseNetBackbone as DenseNetBackbone,
)
from .encoders.cards import (
    BUNDLED as BUNDLED,
)
from .encoders.cards import (
    BUNDLED_WEIGHTS_FILE as BUNDLED_WEIGHTS_FILE,
)
from .encoders.cards import (
    CARDS as CARDS,
)
from .encoders.cards import (
    CONFIG_FILE as CONFIG_FILE,
)
from .encoders.cards import (
    SMALL as SMALL,
)
from .encoders.cards import (
    TOKENIZER_FILE as TOKENIZER_FILE,
)
from .encoders.cards import (
    EncoderCard as EncoderCard,
)
from .encoders.cards import (
    EncoderName as EncoderName,
)
from .encoders.cards import (
    bundled_folder as bundled_folder,
)
from .encoders.cards import (
    is_encoder_name as is_encoder_name,
)
from .encoders.densenet import (
    DenseNet121 as DenseNet121,
)
from .encoders.loading import (
    is_image_text as is_image_text,
)
from .encoders.loading import (
    load_backbone as load_backbone,
)
from .encoders.loading import (
    load_encoder as load_encoder,
)
from .encoders.loading import (
    load_matcher as load_matcher,
)
from .encoders.small import (
    SmallBackbone as SmallBackbone,
)
from .encoders.small import (
    fresh_small_backbone as fresh_small_backbone,
)
from .encoders.text_tower import (
    CONTEXT_LENGTH as CONTEXT_LENGTH,
)
from .encoders.text_tower import (
    MiniLm as MiniLm,
)
from .encoders.text_tower import (
    TextAdapter as TextAdapter,
)
from .encoders.text_tower import (
    TextTower as TextTower,
)
from .familiarity import (
    FAMILIARITY as FAMILIARITY,
)
from .familiarity import (
    Familiarity as Familiarity,
)
from .familiarity import (
    shows_tissue as shows_tissue,
)
from .importing import (
    import_model as import_model,
)
from .importing import (
    import_weights as import_weights,
)
from .library import (
    HINT_MODEL_FILE as HINT_MODEL_FILE,
)
from .library import (
    RESERVED as RESERVED,
)
from .library import (
    EntryState as EntryState,
)
from .library import (
    Kind as Kind,
)
from .library import (
    ModelEntry as ModelEntry,
)
from .library import (
    ModelLibrary as ModelLibrary,
)
from .library import (
    Offer as Offer,
)
from .library import (
    Task as Task,
)
from .library import (
    list_models as list_models,
)
from .library import (
    list_promptable_models as list_promptable_models,
)
from .library import (
    models_folder as models_folder,
)
from .library import (
    why_not_remove as why_not_remove,
)
from .loading import (
    load_model as load_model,
)
from .loading import (
    load_promptable_model as load_promptable_model,
)
from .model_file import (
    load_model_file as load_model_file,
)
from .model_file import (
    read_header as read_header,
)
from .model_file import (
    save_model as save_model,
)
from .promptable.dual_decoder import (
    RESOLUTIONS as RESOLUTIONS,
)
from .promptable.dual_decoder import (
    DualDecoder as DualDecoder,
)
from .promptable.dual_decoder import (
    DualMasks as DualMasks,
)
from .promptable.dual_decoder import (
    Encoded as Encoded,
)
from .promptable.model_file import (
    load_hint_model as load_hint_model,
)
from .promptable.model_file import (
    save_hint_model as save_hint_model,
)
from .promptable.prompt_tensors import (
    GUIDES as GUIDES,
)
from .promptable.prompt_tensors import (
    SURE as SURE,
)
from .promptable.prompt_tensors import (
    PatchHints as PatchHints,
)
from .promptable.prompt_tensors import (
    logits_of as logits_of,
)
from .promptable.sam_decoder import (
    DecoderShape as DecoderShape,
)
from .promptable.sam_decoder import (
    LayerNorm2d as LayerNorm2d,
)
from .promptable.sam_encoders import (
    BackboneEncoder as BackboneEncoder,
)
from .promptable.sam_weights import (
    load_sam as load_sam,
)
from .promptable.wsi_sam import (
    WsiSam as WsiSam,
)
from .promptable.wsi_sam import (
    on_backbone as on_backbone,
)
from .segmentation.base import (
    DenseModel as DenseModel,
)
from .segmentation.cam_net import (
    CamNet as CamNet,
)
from .segmentation.cams import (
    CamSource as CamSource,
)
from .segmentation.cams import (
    CamTarget as CamTarget,
)
from .segmentation.cams import (
    StageOneCams as StageOneCams,
)
from .segmentation.cams import (
    TextCams as TextCams,
)
from .segmentation.cams import (
    load_cam_model as load_cam_model,
)
from .segmentation.cams import (
    no_cam_of as no_cam_of,
)
from .segmentation.cams import (
    save_cam_model as save_cam_model,
)
from .segmentation.pyramid_net import (
    PYRAMID_WIDTH as PYRAMID_WIDTH,
)
from .segmentation.seg_model import (
    BACKBONE as BACKBONE,
)
from .segmentation.seg_model import (
    WINDOW as WINDOW,
)
from .segmentation.seg_model import (
    SegmentationHead as SegmentationHead,
)
from .segmentation.seg_model import (
    SegModel as SegModel,
)
from .segmentation.seg_model import (
    decoder_of as decoder_of,
)
from .segmentation.seg_model import (
    save_segmentation_model as save_segmentation_model,
)
from .segmentation.seg_model import (
    segmentation_head as segmentation_head,
)
from .segmentation.seg_model import (
    segmentation_header as segmentation_header,
)
from .segmentation.seg_model import (
    windows_for as windows_for,
)
from .segmentation.seg_net import (
    SegNet as SegNet,
)
from .segmentation.zero_shot import (
    TEMPLATES as TEMPLATES,
)
from .segmentation.zero_shot import (
    ZeroShotModel as ZeroShotModel,
)
from .segmentation.zero_shot import (
    text_prototypes as text_prototypes,
)
from .surroundings import (
    Surroundings as Surroundings,
)
from .torchvision_compat import (
    make_torchvision_importable as make_torchvision_importable,
)
from .weights import (
    SCALE_SUFFIX as SCALE_SUFFIX,
)
from .weights import (
    check_weights as check_weights,
)
from .weights import (
    quantized as quantized,
)
from .weights import (
    read_shapes as read_shapes,
)
from .weights import (
    read_weights as read_weights,
)
