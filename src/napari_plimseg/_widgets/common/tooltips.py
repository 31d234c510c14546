"""Every tooltip of the dock, in one place."""

from __future__ import annotations

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
    "device": "The processor that runs the model. Automatic takes the fastest one.",
    "tile_size": "Pixels a side that the model sees at once. Smaller shows results sooner and "
    "needs less memory. The mask does not depend on it.",
    "batch_size": "Tiles given to the model at once. Automatic fits the device.",
    "tissue_only": "Leave out glass: quicker, and no class where there is no tissue.",
    "tissue_threshold": "From how much colour on a pixel is tissue. Smaller finds paler tissue.",
    "remove_pen": "Leave out strokes of felt pens in blue, green, black and red.",
    "show_tissue": "Show what would be taken for tissue, without running the model.",
    "keep_probabilities": "Keep the probability of each class for the overlay. Needs about one "
    "byte a class and mask pixel on the disk.",
    "results_folder": "Where results are kept. An interrupted run continues from there, and a "
    "finished one opens at once.",
    "results_default": "Keep results in your user folder again.",
    "generate": "Segment the tissue with the chosen model and classes.",
    "continue": "Go on with the run that was stopped; what is finished is not computed again.",
    "cancel": "Stop after the tiles in work. What is finished stays and can be continued.",
    "overlay": "Show how sure the model is: of its choice everywhere, or of one class.",
    "opacity": "How much of the overlay covers the slide.",
    "colormap": "Colours of the overlay, from 0 (transparent) to 100 %.",
    "areas": "Area of each class as the mask layer shows it, your corrections included.",
    "export_all": "All of these into one folder.",
    "corrections_shown": "Show what you painted over the model's output. Without it the mask can't "
    "be painted on.",
    "discard": "Go back to what the model said, everywhere on this slide. PLIMSeg Review "
    "has a button that takes this back.",
    "restore": (
        "Show the corrections of this slide again that were discarded last. What is painted now is "
        "discarded in their place, and can be brought back the same way."
    ),
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
    "train_quick": "A third of the usual passes over the images: to see whether it works at all.",
    "train_balanced": "The usual number of passes.",
    "train_best": "Two and a half times as many passes.",
    "train_keep_on": "The training goes on after napari is closed. This dock takes it up again.",
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
    "inspect_fill": "How much of the mask's colours covers the slide. With outlines it has a value "
    "of its own.",
    "inspect_outlines": "Lines around the classes, as thick at every zoom, instead of the fill. "
    "Key O.",
    "inspect_uncertainty": "Show where the model was unsure of its choice: the brighter, the less "
    "sure; clear where it was sure.",
    "inspect_class_opacity": "How strongly this class is shown. At 0 it is hidden.",
    "inspect_next": "Go to the region where the model was least sure over the largest area. Key N.",
    "inspect_reviewed": "Remember this region as looked at and go to the next. It is not offered "
    "again. Key R.",
    "inspect_reviewed_view": "Remember all that the window shows now as looked at. Key Shift+R.",
    "inspect_refresh": "Look for uncertain regions again, for instance after a run went on.",
    "inspect_list": "Regions where the model was unsure, the most important first. Click a row to "
    "move there; click its tick to take a review back.",
    "inspect_compare": "Compare this mask with a truth, with the result of another model or with "
    "another layer.",
    "inspect_background": "Count pixels that either mask calls background. Much empty glass makes "
    "the scores look better than the tissue deserves.",
    "inspect_mapping": "Which class each number or name of the other mask stands for.",
    "inspect_scores": "IoU and Dice of each class in percent, and its area in the other mask "
    "(there) and in this one (here), in mm² or pixels.",
    "inspect_copy": "Copy scores and confusion matrix as CSV, for a spreadsheet.",
    "inspect_close": "Take the comparison and its layer away.",
    "inspect_areas": "Area of each class as the mask shows it, your corrections included.",
    "dismiss": "Hide this message.",
    "copy_report": "Copy versions and the last error, without any file name or patient data.",
    "first_run": "Hide these steps. They stay in the help.",
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
    "review_mask": "The mask that is corrected and judged. It follows the layer that you select.",
    "tool_move": "Move and zoom the slide. Key Z; or hold the space bar with any tool.",
    "tool_brush": "Paint the chosen class. Key B; the keys [ and ] change the size. Drag with the "
    "right button around a region to fill it.",
    "tool_erase": "Take corrections back: what the model said returns. Key E.",
    "tool_fill": "Click a region and all of it becomes the chosen class. Key F.",
    "tool_polygon": "Click corners around a region, double-click to fill it with the chosen class. "
    "Key G; Escape begins anew.",
    "tool_pick": "Choose the class under the cursor. Key L.",
    "protect": "Protect {name}: no tool changes its pixels.",
    "unprotect": "{name} is protected: no tool changes its pixels. Click to allow changes.",
    "brush_size": "Diameter of the brush. Keys [ and ].",
    "only_tissue": "Leave glass as it is, wherever the brush goes.",
    "undo": "Take the last change back. Ctrl+Z.",
    "redo": "Make the change again that was taken back. Ctrl+Shift+Z.",
    "edit_region": "This slide is shown coarser than its mask. Open what the window shows, up to "
    "4,096 pixels a side, with every pixel of the mask.",
    "region_done": "Close the window; what you painted is in the mask.",
    "region_discard": "Close the window and put back what was there before.",
    "cleanup_scope": "What the operations below work on.",
    "cleanup_holes": "Fill what the class or region encloses, up to this size.",
    "cleanup_small": "Give regions of the class below this size to what surrounds them; a region "
    "that you click goes whatever its size.",
    "cleanup_smooth": "Smooth the outline; no gaps open between neighbours.",
    "cleanup_grow": "Move the outline outwards.",
    "cleanup_shrink": "Move the outline inwards; the nearest class moves in.",
    "open_review": "Correct the mask by hand, and see where the model was unsure.",
    "open_train": "Train a model of your own from images with tags, or from corrected masks.",
    "open_models": "See which models are here; import, download and remove them.",
    "open_batch": "Segment many slides, one after another.",
    "help": "Keys, first steps, and a report of the last error.",
    "copy_error": "Copy a report of this error: versions and places in the code, no file name and "
    "no patient data.",
    "close_help": "Close this window.",
    "hint_point_in": "Click inside an object: its mask is proposed. Key P with a hint tool.",
    "hint_point_out": "Click on what does not belong to the object. Shift+P, or hold Shift.",
    "hint_box": "Drag a box around an object. Key X with a hint tool.",
    "hint_refine": "Click a region of the mask, then what it lacks (+) and has too much (−). Enter "
    "gives it the new outline, as one step: what it loses goes back to the class that the "
    "model saw there or, where that is the same, to the nearest neighbour. Key M with a hint tool.",
    "hint_accept": "Give the proposed pixels the class, undoably. Enter.",
    "hint_discard": "Forget the proposal. Escape; Backspace takes back the last hint only.",
    "hint_wider": "Look at twice the surroundings, for an object that goes on beyond them.",
    "hint_words": "A tissue that you describe, such as gland or necrosis; commas separate words "
    "for the same. Left empty, the regions of the chosen class in the mask are taken.",
    "hint_find": "Propose every object in view at once. A click with Point − leaves one out.",
    "hint_one_by_one": "Show one proposal after another: Enter accepts it, Escape skips it.",
    "hint_model": "What answers points and boxes. Train your own with: plimseg train, wsi_sam.",
    "hint_pixel_size": "Micrometres per pixel of the slide, which does not tell it itself.",
    "fold": "Show or hide this part.",
}
"""Text by control; a disabled control shows the reason instead."""
