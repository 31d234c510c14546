__all__ = [
    "DISAGREE",
    "FORMATS",
    "ONLY_MASK",
    "ONLY_OTHER",
    "SUFFIX",
    "Agreement",
    "ClassArea",
    "ClassChange",
    "ClassEdits",
    "ClassState",
    "Comparison",
    "Computation",
    "Corrections",
    "Edit",
    "MaskArray",
    "MaskInfo",
    "MaskStore",
    "OtherMask",
    "Part",
    "RegionToRefine",
    "Resolution",
    "ReviewLog",
    "ReviewedRegion",
    "RunLengthMask",
    "StoreDamage",
    "StoreLayout",
    "UncertainRegion",
    "allowed_pixels",
    "analysis_step",
    "area_table",
    "checked_formats",
    "compare",
    "connected_region",
    "corrected",
    "delete_store",
    "disk_error",
    "export_all",
    "export_corrected_objects",
    "export_geojson",
    "export_stem",
    "fill_holes",
    "grow",
    "has_corrections",
    "has_labels",
    "iter_outlines",
    "mask_to_export",
    "match_classes",
    "read_checked",
    "read_label_tiff",
    "read_other_mask",
    "region_to_refine",
    "region_within",
    "relabel",
    "remove_region",
    "remove_small",
    "reviewed_share",
    "shrink",
    "smooth_outline",
    "worklist",
    "write_checked",
    "write_labels",
]

from .analysis.comparison import (
    DISAGREE as DISAGREE,
)
from .analysis.comparison import (
    ONLY_MASK as ONLY_MASK,
)
from .analysis.comparison import (
    ONLY_OTHER as ONLY_OTHER,
)
from .analysis.comparison import (
    Comparison as Comparison,
)
from .analysis.comparison import (
    OtherMask as OtherMask,
)
from .analysis.comparison import (
    compare as compare,
)
from .analysis.comparison import (
    match_classes as match_classes,
)
from .analysis.comparison import (
    read_other_mask as read_other_mask,
)
from .analysis.review_log import (
    ReviewedRegion as ReviewedRegion,
)
from .analysis.review_log import (
    ReviewLog as ReviewLog,
)
from .analysis.uncertainty import (
    UncertainRegion as UncertainRegion,
)
from .analysis.uncertainty import (
    analysis_step as analysis_step,
)
from .analysis.uncertainty import (
    reviewed_share as reviewed_share,
)
from .analysis.uncertainty import (
    worklist as worklist,
)
from .class_edits import (
    ClassChange as ClassChange,
)
from .class_edits import (
    ClassEdits as ClassEdits,
)
from .class_edits import (
    ClassState as ClassState,
)
from .corrections.corrections import (
    Corrections as Corrections,
)
from .corrections.corrections import (
    corrected as corrected,
)
from .corrections.corrections import (
    has_corrections as has_corrections,
)
from .corrections.objects import (
    export_corrected_objects as export_corrected_objects,
)
from .editing.components import (
    RunLengthMask as RunLengthMask,
)
from .editing.operations import (
    Edit as Edit,
)
from .editing.operations import (
    Part as Part,
)
from .editing.operations import (
    allowed_pixels as allowed_pixels,
)
from .editing.operations import (
    connected_region as connected_region,
)
from .editing.operations import (
    fill_holes as fill_holes,
)
from .editing.operations import (
    grow as grow,
)
from .editing.operations import (
    region_within as region_within,
)
from .editing.operations import (
    relabel as relabel,
)
from .editing.operations import (
    remove_region as remove_region,
)
from .editing.operations import (
    remove_small as remove_small,
)
from .editing.operations import (
    shrink as shrink,
)
from .editing.operations import (
    smooth_outline as smooth_outline,
)
from .editing.refinement import (
    RegionToRefine as RegionToRefine,
)
from .editing.refinement import (
    region_to_refine as region_to_refine,
)
from .export.formats import (
    FORMATS as FORMATS,
)
from .export.formats import (
    Resolution as Resolution,
)
from .export.formats import (
    checked_formats as checked_formats,
)
from .export.formats import (
    export_all as export_all,
)
from .export.formats import (
    export_stem as export_stem,
)
from .export.geojson import (
    export_geojson as export_geojson,
)
from .export.geojson import (
    iter_outlines as iter_outlines,
)
from .export.label_tiff import (
    read_label_tiff as read_label_tiff,
)
from .export.slide_labels import (
    has_labels as has_labels,
)
from .export.slide_labels import (
    write_labels as write_labels,
)
from .mask_info import (
    Computation as Computation,
)
from .mask_info import (
    MaskInfo as MaskInfo,
)
from .mask_store import (
    SUFFIX as SUFFIX,
)
from .mask_store import (
    MaskStore as MaskStore,
)
from .mask_store import (
    delete_store as delete_store,
)
from .mask_store import (
    mask_to_export as mask_to_export,
)
from .measure import (
    Agreement as Agreement,
)
from .measure import (
    ClassArea as ClassArea,
)
from .measure import (
    MaskArray as MaskArray,
)
from .measure import (
    area_table as area_table,
)
from .store_damage import (
    StoreDamage as StoreDamage,
)
from .store_layout import (
    StoreLayout as StoreLayout,
)
from .store_manifest import (
    disk_error as disk_error,
)
from .store_manifest import (
    read_checked as read_checked,
)
from .store_manifest import (
    write_checked as write_checked,
)
