__all__ = [
    "COLORMAPS",
    "CONFIDENCE",
    "MASK_OPACITY",
    "OWNER_KEY",
    "CameraWatch",
    "CorrectionsControl",
    "CorrectionsRow",
    "CursorStatus",
    "DiscardedRow",
    "LayerBindings",
    "MaskView",
    "OutlineLayer",
    "OverlayView",
    "OverviewControl",
    "RemovedLayers",
    "RunOn",
    "SlideOpener",
    "ThemeColor",
    "ViewerSlides",
    "add_region_layer",
    "add_value_layer",
    "canvas_size",
    "chosen_region",
    "closed_shapes",
    "colors_of",
    "confidence_values",
    "describe_corrections",
    "edit_spans",
    "fading_colormap",
    "find_region_layer",
    "get_camera",
    "get_scale_bar",
    "is_drawing",
    "label_colormap",
    "label_history",
    "mask_view_of",
    "mask_views",
    "show_over",
    "show_tissue",
    "show_world_box",
    "slide_file_filter",
    "slide_of",
    "unwrapped",
    "view_center",
    "visible_region",
    "watch_layers",
    "watch_slides",
]

from . import label_history as label_history
from .camera import (
    CameraWatch as CameraWatch,
)
from .camera import (
    get_camera as get_camera,
)
from .camera import (
    get_scale_bar as get_scale_bar,
)
from .camera import (
    show_world_box as show_world_box,
)
from .corrections_panel import (
    CorrectionsControl as CorrectionsControl,
)
from .corrections_panel import (
    CorrectionsRow as CorrectionsRow,
)
from .corrections_panel import (
    DiscardedRow as DiscardedRow,
)
from .corrections_panel import (
    describe_corrections as describe_corrections,
)
from .cursor_status import (
    CursorStatus as CursorStatus,
)
from .layer_bindings import (
    LayerBindings as LayerBindings,
)
from .mask_keys import (
    watch_layers as watch_layers,
)
from .mask_layer import (
    CONFIDENCE as CONFIDENCE,
)
from .mask_layer import (
    MASK_OPACITY as MASK_OPACITY,
)
from .mask_layer import (
    MaskView as MaskView,
)
from .mask_layer import (
    confidence_values as confidence_values,
)
from .mask_layer import (
    label_colormap as label_colormap,
)
from .mask_layer import (
    mask_view_of as mask_view_of,
)
from .mask_layer import (
    mask_views as mask_views,
)
from .mask_layer import (
    show_tissue as show_tissue,
)
from .napari_private import (
    canvas_size as canvas_size,
)
from .napari_private import (
    edit_spans as edit_spans,
)
from .napari_private import (
    is_drawing as is_drawing,
)
from .napari_private import (
    unwrapped as unwrapped,
)
from .outlines import (
    OutlineLayer as OutlineLayer,
)
from .overlays import (
    OverlayView as OverlayView,
)
from .overlays import (
    show_over as show_over,
)
from .overview_map import (
    OverviewControl as OverviewControl,
)
from .regions import (
    RunOn as RunOn,
)
from .regions import (
    add_region_layer as add_region_layer,
)
from .regions import (
    chosen_region as chosen_region,
)
from .regions import (
    closed_shapes as closed_shapes,
)
from .regions import (
    find_region_layer as find_region_layer,
)
from .regions import (
    view_center as view_center,
)
from .regions import (
    visible_region as visible_region,
)
from .slide_groups import (
    OWNER_KEY as OWNER_KEY,
)
from .slide_groups import (
    RemovedLayers as RemovedLayers,
)
from .slide_groups import (
    slide_of as slide_of,
)
from .slide_layers import (
    SlideOpener as SlideOpener,
)
from .slide_layers import (
    ThemeColor as ThemeColor,
)
from .slide_layers import (
    ViewerSlides as ViewerSlides,
)
from .slide_layers import (
    slide_file_filter as slide_file_filter,
)
from .slide_watch import (
    watch_slides as watch_slides,
)
from .value_layers import (
    COLORMAPS as COLORMAPS,
)
from .value_layers import (
    add_value_layer as add_value_layer,
)
from .value_layers import (
    colors_of as colors_of,
)
from .value_layers import (
    fading_colormap as fading_colormap,
)
