"""What the docks say: all tooltips, the switch that shows them or a reason, and labels.

Text is shown as it is: names from files are never read as HTML. Qt takes text that begins like HTML
for HTML, in labels, tooltips and message boxes, and a class, a slide or a model may be called
`<img src=...>`.
"""

from __future__ import annotations

import re

from qtpy.QtCore import QPoint, QRect, QSize, Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

_LIKE_HTML = re.compile(r"<(?!\u200b)|&(?=lt;)")
TOOLTIPS: dict[str, str] = {
    "slide": "The slide to segment. It follows the slide selected in the layer list.",
    "open": "Open a whole-slide image: SVS, NDPI, MRXS, SCN, TIFF, OME-TIFF, OME-Zarr, DICOM, or "
    "a picture.",
    "sample": "Open the small H&E slide shipped with the plugin (CMU-1, public domain).",
    "overview_map": "The slide, and the part in view. Click or drag to go there.",
    "mpp": "Micrometers per pixel at full resolution: about 0.25 at 40x, 0.5 at 20x, 1 at 10x.",
    "model": "The model that segments the tissue.",
    "classes": "Double-click a name or its words to change them. The words describe the class to "
    "the model; separate them by commas. The eye hides a class, the square changes its color. "
    "Clicking a class selects it for the brush.",
    "add": "Add a tissue class: enter a name and words that describe it.",
    "remove": "Remove the selected class.",
    "reset": "Restore the classes and words of the model.",
    "change_classes": "Edit the classes that the next run asks for. The mask keeps its own.",
    "history": "All results of this slide, by model and date: open, compare, recompute or delete "
    "them.",
    "presets": "Lists of classes with colors and words: load one, or save this one to share it.",
    "class_table": "Double-click a name to change it, click a square to change the color. "
    "Ignored classes are left out of areas and exports. All edits are kept with the mask.",
    "class_add": "Add a class to paint with, in a color that differs from all others.",
    "class_merge": "Make the pixels of the selected class those of another one.",
    "class_delete": "Delete the selected class; its pixels become background.",
    "class_up": "Move the selected class up. The order is that of numbers in exports.",
    "class_down": "Move the selected class down. The order is that of numbers in exports.",
    "class_undo": "Undo the last edit of the classes.",
    "class_redo": "Redo the edit of the classes undone last.",
    "class_color_blind": "Give all classes colors that color-blind eyes tell apart.",
    "edit_classes": "Rename, merge, ignore or delete classes of this mask, in PLIMSeg Review.",
    "whole": "Segment all tissue of the slide, starting with the current view.",
    "visible": "Segment the current view.",
    "shapes": "Segment the regions that you draw.",
    "draw": "Draw regions with the rectangle, ellipse or polygon tool of the region layer.",
    "show_tissue": "Show what counts as tissue, without running the model.",
    "folder_default": "Return to the default folder.",
    "generate": "Segment tissue with the chosen model.",
    "continue": "Continue the cancelled run. Finished tiles are not computed again.",
    "cancel": "Stop after the current tiles. Finished tiles are kept, and the run can be "
    "continued.",
    "overlay": "Show the confidence of the model in the chosen class, or the probability of one "
    "class.",
    "cam_what": "A class of the mask, or any word: the map shows where the model sees it.",
    "cam_model": "An image-text model reads any text. Stage 1 of a training knows its classes.",
    "cam_show": "Compute the map for the current view. Press again after moving.",
    "cam_hide": "Remove the map; the mask comes forward again.",
    "cam_cancel": "Stop after the current tile. What is computed stays.",
    "opacity": "Opacity of the overlay.",
    "colormap": "Colors of the overlay, from 0 (transparent) to 100 %.",
    "areas": "Area of each class in the mask, including your corrections.",
    "export_all": "All of these formats, in one folder.",
    "slide_labels": "Write the mask into the slide itself, as OME-Zarr labels that other viewers "
    "show. The image and other labels are not changed.",
    "corrections_shown": "Show your corrections over the model's mask. The mask can only be "
    "painted while they are shown.",
    "discard": "Show the model's mask again, everywhere on this slide. Restore in PLIMSeg Review "
    "gets the corrections back.",
    "restore": "Show the discarded corrections of this slide again. Corrections made since then "
    "are discarded instead, and can be restored the same way.",
    "banner_offer": "{what}: see the message.",
    "export_beside": "Export into the folder of the slide without asking where.",
    "open_folder": "Show the exported file in its folder.",
    "tag_class": "Add or remove this tag. Its number key does the same.",
    "tag_back": "Previous image (left arrow).",
    "tag_next": "Next image (Space or right arrow). Tags are saved with every key press.",
    "tag_untagged": "Next image without tags (U).",
    "tag_nothing": "The image shows none of the classes and is not used for training (0).",
    "tag_unsure": "Set the image aside: unsure images are not used for training (?).",
    "tag_undo": "Undo the last change (Ctrl+Z).",
    "tag_add_class": "Add a tissue class.",
    "train_folder": "Choose a folder of tagged images. Tags are read from file names, tags.csv, "
    "or one subfolder per class.",
    "train_slides": "Cut tagged patches from the open slides and their masks, including your "
    "corrections.",
    "train_tag": "Tag a folder of images by keyboard. The tags are saved beside the images in "
    "tags.csv.",
    "train_classes": "Double-click a name or its words to change them. The image-text model reads "
    "the words, so synonyms help.",
    "train_mpp": "Micrometers per pixel of the images: about 0.25 at 40x, 0.5 at 20x, 1 at 10x.",
    "train_masks": "What numbers, colors or class names of the masks mean: 3=stroma, "
    "#0000ff=tumor. A dash ignores one: 7=-. Press Enter to check the folder again.",
    "train_name": "Name of the new model in the list of models.",
    "train_backbone": "The image encoder that the model is built on. Nothing is downloaded.",
    "train_start": "Start the training in the background. You can keep working in the viewer.",
    "train_stop": "Finish the current step, save, and stop. Resume continues from there.",
    "train_stop_now": "Stop at once. Resume continues from the last checkpoint.",
    "train_resume": "Continue this training, under its own name, from its last checkpoint.",
    "train_picture_back": "Previous picture.",
    "train_picture_forward": "Next picture.",
    "train_report": "Open the report of the training in the browser. It works offline.",
    "train_use": "Select the new model in the PLIMSeg dock.",
    "train_cancel_compare": "Stop the comparison.",
    "train_compare": "Run the new model and the model selected here on the current view, and "
    "compare their masks.",
    "train_other": "The model to compare with.",
    "train_shown": "The mask to show on the slide. The layer list has all of them.",
    "train_runs": "Earlier trainings on this computer.",
    "train_pictures": "Training images with the current masks of the network. Click to enlarge.",
    "inspect_fill": "Opacity of the mask. Outlines have their own setting.",
    "inspect_outlines": "Show outlines of the classes instead of the fill. Key O.",
    "inspect_uncertainty": "Show where the model was unsure: the brighter, the less sure.",
    "inspect_class_opacity": "Opacity of this class. At 0 it is hidden.",
    "inspect_next": "Go to the most uncertain region that is not reviewed yet. Key N.",
    "inspect_reviewed": "Mark this region as reviewed and go to the next one. Key R.",
    "inspect_reviewed_view": "Mark everything in the current view as reviewed. Key Shift+R.",
    "inspect_refresh": "Search for uncertain regions again, for example after a run continued.",
    "inspect_list": "Uncertain regions, the most important first. Click a row to go there. Click "
    "its check mark to mark it as not reviewed.",
    "inspect_compare": "Compare this mask with expert annotations, another model's result or "
    "another layer.",
    "inspect_cancel": "Stop the comparison that is running.",
    "inspect_background": "Include pixels that either mask calls background. Large areas of glass "
    "improve the scores without saying anything about tissue.",
    "inspect_mapping": "Choose the class of this mask that each class of the other mask "
    "corresponds to.",
    "inspect_scores": "IoU and Dice per class in percent, and the area of the class in the truth "
    "and in this mask, in mm² or pixels.",
    "inspect_copy": "Copy scores and confusion matrix as CSV, for a spreadsheet.",
    "inspect_close": "Close the comparison and remove its layer.",
    "inspect_areas": "Area of each class in the mask, your corrections included.",
    "dismiss": "Hide this message.",
    "copy_report": "Copy versions and the last error. The report contains no file names and no "
    "patient data.",
    "first_run": "Hide these steps. They remain available in the help.",
    "models_import": "Import a model file, a folder, or the weights of an encoder. They are "
    "checked, then copied.",
    "models_weights": "Use files on this computer as the weights of the selected encoder, or of "
    "the encoder that the selected model needs.",
    "models_download": "Download the selected encoder. Its size and license are shown first.",
    "models_cancel": "Stop the download or the import. The downloaded part is kept, and the "
    "download can be continued.",
    "models_remove": "Delete the selected model from this computer, after a confirmation.",
    "models_use": "Select this model in the PLIMSeg dock.",
    "batch_add": "Add slides, or all slides of a folder. You can also drop them on the list.",
    "batch_run": "Segment all waiting and stopped slides, one after another.",
    "batch_stop": "Stop after the current tiles. Finished tiles are kept, and the batch can be "
    "continued.",
    "batch_remove": "Remove the selected slides from the list. Their results stay on disk.",
    "batch_retry": "Put the failed slides back into the queue.",
    "batch_open": "Open the selected slide with its result in the viewer.",
    "batch_setup": "Export this format for every slide.",
    "batch_folder": "Where masks, exports and the list of slides are saved.",
    "batch_mpp": "Micrometers per pixel of the selected slides, whose files do not state it.",
    "review_mask": "The mask to correct and inspect. It follows the selected layer.",
    "tool_move": "Move and zoom the slide. Key Z, or hold the space bar with any tool.",
    "tool_brush": "Paint the selected class. Key B; keys [ and ] change the size. Drag with the "
    "right button around a region to fill it.",
    "tool_erase": "Remove corrections: the model's mask is shown again. Key E.",
    "tool_fill": "Click a region to set all of it to the selected class. Key F.",
    "tool_polygon": "Click corners around a region, double-click to fill it with the selected "
    "class. Key G; Esc starts over.",
    "tool_pick": "Select the class under the cursor. Key L.",
    "protect": "Protect {name}: no tool changes its pixels.",
    "unprotect": "{name} is protected: no tool changes its pixels. Click to unprotect.",
    "brush_size": "Diameter of the brush. Keys [ and ].",
    "only_tissue": "Do not paint on glass.",
    "undo": "Undo the last change. Ctrl+Z.",
    "redo": "Redo the last undone change. Ctrl+Shift+Z.",
    "edit_region": "This mask is shown downsampled. Open the current view at full resolution, up "
    "to 4,096 pixels per side.",
    "region_done": "Close the region and keep what you painted.",
    "region_discard": "Close the region and restore what was there before.",
    "cleanup_scope": "What the operations below change.",
    "cleanup_holes": "Fill holes in the class or region up to this size.",
    "cleanup_small": "Merge regions of the class below this size into their surroundings. A "
    "clicked region is merged whatever its size.",
    "cleanup_smooth": "Smooth the outline without opening gaps between neighbors.",
    "cleanup_grow": "Move the outline outward.",
    "cleanup_shrink": "Move the outline inward; the nearest class fills the space.",
    "open_review": "Correct the mask and see where the model was unsure.",
    "open_train": "Train your own model on tagged images or corrected masks.",
    "open_models": "List, import, download and remove models.",
    "open_batch": "Segment many slides, one after another.",
    "help": "Keys, first steps, and a report of the last error.",
    "copy_error": "Copy a report of this error. It contains no file names and no patient data.",
    "close_help": "Close this window.",
    "prompt_point_in": "Click inside an object to propose its mask. Key P while a Smart select "
    "tool is active.",
    "prompt_point_out": "Click an area that is not part of the object. Shift+P, or hold Shift.",
    "prompt_box": "Drag a box around an object. Key X while a Smart select tool is active.",
    "prompt_refine": "Click a region of the mask, then what is missing (+) and what is too much "
    "(−). Enter applies the new outline. Removed pixels get the model's class back, or that of "
    "the nearest neighbor. Key M while a Smart select tool is active.",
    "prompt_accept": "Assign the selected class (can be undone). Enter.",
    "prompt_discard": "Discard the proposal. Esc; Backspace removes only the last point or box.",
    "prompt_wider": "Double the context around the object, for one that is cut off.",
    "prompt_words": "Describe a tissue, such as gland or necrosis; separate synonyms by commas. "
    "When empty, the regions of the selected class are used.",
    "prompt_find": "Propose every object in view. Click one with Point − to drop it.",
    "prompt_one_by_one": "Show one proposal after another: Enter accepts it, Esc skips it.",
    "prompt_model": "The Smart select model. Train your own with: plimseg train, recipe wsi_sam.",
    "prompt_pixel_size": "The slide has no pixel size. Enter it in micrometers per pixel.",
    "fold": "Show or hide this part.",
}
"""Text by control; a disabled control shows the reason instead."""


def allow(widget: QWidget, why_not: str, tooltip: str) -> None:
    """Enable a control, or disable it and show the reason as its tooltip.

    Parameters
    ----------
    widget : QWidget
    why_not : str
        Why the control can't be used; empty enables it.
    tooltip : str
        A key of `TOOLTIPS`.
    """
    widget.setEnabled(not why_not)
    widget.setToolTip(plain(why_not or TOOLTIPS[tooltip]))


def plain(text: str) -> str:
    """Return a text that Qt shows as it is where a widget guesses the format.

    An invisible space of no width follows each `<`, so that nothing is a tag. For tooltips, message
    boxes and notifications; labels of our own are `PlainLabel`.
    """
    return _LIKE_HTML.sub("\\g<0>\u200b", text)


class PlainLabel(QLabel):
    """A label whose text is no HTML, unless `setTextFormat` says so.

    Parameters
    ----------
    text : str
    parent : QWidget, optional
    """

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)


class FlowText(PlainLabel):
    """A label whose long text wraps instead of widening the dock."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def minimumSizeHint(self) -> QSize:
        """Return a small width, so that the dock can be narrow."""
        box = QRect(QPoint(0, 0), QSize(max(self.width(), 120), 4000))
        flags = int(Qt.TextFlag.TextWordWrap.value)
        return QSize(60, self.fontMetrics().boundingRect(box, flags, self.text()).height())
