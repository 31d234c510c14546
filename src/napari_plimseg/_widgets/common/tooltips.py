"""All tooltips of the docks, in one place, and the switch that shows them or a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


TOOLTIPS: dict[str, str] = {
    "slide": "The slide to segment. It follows the slide layer that you select in the layer list.",
    "open": "Open a whole-slide image: SVS, NDPI, MRXS, SCN, TIFF, OME-TIFF, OME-Zarr, DICOM or "
    "a picture.",
    "sample": "Open the small H&E slide that comes with the plugin (CMU-1, public domain).",
    "mpp": "Micrometres per pixel at full resolution. Scans at 40x have about 0.25, at 20x about "
    "0.5, at 10x about 1.",
    "model": "The model that names the tissue.",
    "classes": "Double-click a name or the words to change them. The words describe the class for "
    "the model, separated by commas. The eye hides a class, the square is its "
    "colour. The brush of the mask layer paints the class that you click.",
    "add": "Add a tissue class: type its name and words that describe it.",
    "remove": "Remove the selected class.",
    "reset": "Back to the classes and words of the model.",
    "whole": "Segment all tissue on the slide. What you look at comes first.",
    "visible": "Segment what the window shows now.",
    "shapes": "Segment inside rectangles or outlines that you draw.",
    "draw": "Draw on the slide with the rectangle, ellipse or polygon tool of the region layer.",
    "show_tissue": "Show what would be taken for tissue, without running the model.",
    "folder_default": "Return to the default folder.",
    "generate": "Segment the tissue with the chosen model and classes.",
    "continue": "Go on with the run that was stopped; what is finished is not computed again.",
    "cancel": "Stop after the tiles in work. What is finished stays and can be continued.",
    "overlay": "Show how sure the model is: of its choice everywhere, or of one class.",
    "opacity": "How much of the overlay covers the slide.",
    "colormap": "Colours of the overlay, from 0 (transparent) to 100 %.",
    "areas": "Area of each class as the mask layer shows it, your corrections included.",
    "export_all": "All of these into one folder.",
    "corrections_shown": "Show your corrections over the model's mask. The mask can only be "
    "painted while they are shown.",
    "discard": "Show the model's mask again, everywhere on this slide. Restore in PLIMSeg Review "
    "gets the corrections back.",
    "restore": "Show the discarded corrections of this slide again. Corrections made since then "
    "are discarded instead, and can be restored the same way.",
    "open_folder": "Show the exported file in its folder.",
    "tag_class": "Give the image this tag, or take it away. Its number key does the same.",
    "tag_back": "The image before (left arrow).",
    "tag_next": "The next image (Space or right arrow). Tags are saved with every key.",
    "tag_untagged": "The next image that nobody looked at (U).",
    "tag_nothing": "It shows none of the classes: it is left out of the training (0).",
    "tag_unsure": "Set it aside: unsure images are not trained on (?).",
    "tag_undo": "Take the last change back (Ctrl+Z).",
    "tag_add_class": "Add a tissue class to tag.",
    "train_folder": "Choose a folder of images with tags: in the file names, in tags.csv, or one "
    "sub-folder a class.",
    "train_slides": "Cut tagged patches out of the open slides, from their masks with your "
    "corrections.",
    "train_tag": "Tag a folder of images by keyboard. The tags are saved beside them as tags.csv.",
    "train_classes": "Double-click a name or the words to change them. The words are what the "
    "image-text model reads, so synonyms help.",
    "train_mpp": "Micrometres per pixel of the images: about 0.25 at 40x, 0.5 at 20x, 1 at 10x.",
    "train_name": "What the model is called in the list of models.",
    "train_backbone": "The image encoder that the model is built on. Nothing is downloaded.",
    "train_start": "Start the training in a process of its own: the viewer stays free.",
    "train_stop": "Finish the step, save and end. Resume goes on later from there.",
    "train_stop_now": "End at once. Resume goes on from the last checkpoint.",
    "train_resume": "Go on with this training from its last checkpoint.",
    "train_picture_back": "The picture before.",
    "train_picture_forward": "The next picture.",
    "train_report": "Open the training's report in the browser. It needs no network.",
    "train_use": "Choose the new model in the PLIMSeg dock.",
    "train_compare": "Run the new model and the one chosen here on what the window shows, and "
    "compare their masks.",
    "train_other": "The model to compare with.",
    "train_shown": "Which of the two masks is seen on the slide; the layer list has all.",
    "train_runs": "Earlier trainings on this computer.",
    "train_pictures": "Training images and what the network makes of them now. Click to enlarge.",
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
    "models_import": "Take a model file, a folder, or the weights of an encoder into the library. "
    "They are checked first and copied as a whole.",
    "models_weights": "Take the files of the selected encoder from this computer.",
    "models_download": "Fetch the selected encoder. You see its size and licence first.",
    "models_cancel": "Stop the download. What came so far is kept and continued later.",
    "models_remove": "Delete the selected model from this computer. You are asked first.",
    "models_use": "Choose the selected model in the dock PLIMSeg.",
    "batch_add": "Add slides, or all slides of a folder. You can also drop them on the list.",
    "batch_run": "Segment every slide that is waiting or stopped, one after another.",
    "batch_stop": "Stop after the tiles in work. What is finished stays and is continued later.",
    "batch_remove": "Take the selected slides off the list. Their results stay on the disk.",
    "batch_retry": "Let the failed slides wait for another turn.",
    "batch_open": "Open the selected slide with its result in the viewer.",
    "batch_setup": "What every slide is segmented with, and where the results go.",
    "batch_folder": "Where masks and exports go, and where the list itself is kept.",
    "batch_mpp": "Micrometres per pixel of the selected slides, which don't tell it themselves.",
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
    "open_train": "Train a model of your own from images with tags, or from corrected masks.",
    "open_models": "See which models are here; import, download and remove them.",
    "open_batch": "Segment many slides, one after another.",
    "help": "Keys, first steps, and a report of the last error.",
    "copy_error": "Copy a report of this error. It contains no file names and no patient data.",
    "close_help": "Close this window.",
    "prompt_point_in": "Click inside an object to propose its mask. Key P while a Smart select "
    "tool is active.",
    "prompt_point_out": "Click an area that is not part of the object. Shift+P, or hold Shift.",
    "prompt_box": "Drag a box around an object. Key X while a Smart select tool is active.",
    "prompt_refine": "Click a region of the mask, then what is missing (+) and what is too much "
    "(−). Enter applies the new outline. Removed pixels get the model's class back, or that of the "
    "nearest neighbor. Key M while a Smart select tool is active.",
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
    widget.setToolTip(why_not or TOOLTIPS[tooltip])
