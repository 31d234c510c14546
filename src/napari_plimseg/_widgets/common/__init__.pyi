__all__ = [
    "CHOSEN_STYLE",
    "EVERYTHING",
    "EYE",
    "NARROWEST",
    "SPACING",
    "TOOLTIPS",
    "ActionButton",
    "AreaRow",
    "BackgroundJob",
    "Banner",
    "ClassList",
    "CollapsibleSection",
    "FirstRunCard",
    "FlowText",
    "HelpPanel",
    "LinkBrowser",
    "MadeBy",
    "ModelCache",
    "ModelChoice",
    "NothingToDo",
    "OptionsForm",
    "PlainLabel",
    "PresetMenu",
    "ScrollColumn",
    "Stage",
    "TabOrdered",
    "TileDone",
    "TimeSlicedTask",
    "ValueBar",
    "allow",
    "arrow",
    "column",
    "end_at_closing",
    "export_files",
    "export_name",
    "failure_of",
    "heading",
    "labeled",
    "link_color",
    "measure_areas",
    "on_destroyed",
    "plain",
    "row",
    "run_once",
    "same_words",
    "scrolling",
    "show_actions",
    "swatch",
    "tool_button",
    "tool_icon",
]

from .actions import (
    ActionButton as ActionButton,
)
from .actions import (
    show_actions as show_actions,
)
from .background_job import (
    BackgroundJob as BackgroundJob,
)
from .background_job import (
    TimeSlicedTask as TimeSlicedTask,
)
from .background_job import (
    end_at_closing as end_at_closing,
)
from .background_job import (
    on_destroyed as on_destroyed,
)
from .background_job import (
    run_once as run_once,
)
from .banner import (
    Banner as Banner,
)
from .banner import (
    failure_of as failure_of,
)
from .class_list import (
    EYE as EYE,
)
from .class_list import (
    ClassList as ClassList,
)
from .class_list import (
    same_words as same_words,
)
from .collapsible import (
    CollapsibleSection as CollapsibleSection,
)
from .help import (
    FirstRunCard as FirstRunCard,
)
from .help import (
    HelpPanel as HelpPanel,
)
from .icons import (
    CHOSEN_STYLE as CHOSEN_STYLE,
)
from .icons import (
    arrow as arrow,
)
from .icons import (
    swatch as swatch,
)
from .icons import (
    tool_button as tool_button,
)
from .icons import (
    tool_icon as tool_icon,
)
from .jobs import (
    EVERYTHING as EVERYTHING,
)
from .jobs import (
    AreaRow as AreaRow,
)
from .jobs import (
    ModelCache as ModelCache,
)
from .jobs import (
    NothingToDo as NothingToDo,
)
from .jobs import (
    Stage as Stage,
)
from .jobs import (
    TileDone as TileDone,
)
from .jobs import (
    export_files as export_files,
)
from .jobs import (
    export_name as export_name,
)
from .jobs import (
    measure_areas as measure_areas,
)
from .layout import (
    NARROWEST as NARROWEST,
)
from .layout import (
    SPACING as SPACING,
)
from .layout import (
    ScrollColumn as ScrollColumn,
)
from .layout import (
    column as column,
)
from .layout import (
    heading as heading,
)
from .layout import (
    labeled as labeled,
)
from .layout import (
    row as row,
)
from .layout import (
    scrolling as scrolling,
)
from .links import (
    LinkBrowser as LinkBrowser,
)
from .links import (
    link_color as link_color,
)
from .model_choice import (
    MadeBy as MadeBy,
)
from .model_choice import (
    ModelChoice as ModelChoice,
)
from .options_form import (
    OptionsForm as OptionsForm,
)
from .preset_menu import (
    PresetMenu as PresetMenu,
)
from .tab_order import (
    TabOrdered as TabOrdered,
)
from .tooltips import (
    TOOLTIPS as TOOLTIPS,
)
from .tooltips import (
    FlowText as FlowText,
)
from .tooltips import (
    PlainLabel as PlainLabel,
)
from .tooltips import (
    allow as allow,
)
from .tooltips import (
    plain as plain,
)
from .value_bar import (
    ValueBar as ValueBar,
)
