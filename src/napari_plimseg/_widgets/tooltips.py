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
    "generate": "Segment the tissue with the chosen model and classes.",
    "continue": "Go on with the run that was stopped; what is finished is not computed again.",
    "cancel": "Stop after the tiles in work. What is finished stays and can be continued.",
    "overlay": "Show how sure the model is: of its choice everywhere, or of one class.",
    "opacity": "How much of the overlay covers the slide.",
    "colormap": "Colours of the overlay, from 0 (transparent) to 100 %.",
    "areas": "Area of each class as the mask layer shows it, your corrections included.",
    "export_ome-tiff": "Pyramidal OME-TIFF of class numbers with pixel size and class names.",
    "export_geojson": "Outlines for QuPath, with holes, classes and colours.",
    "export_csv": "Area of each class in pixels, mm² and percent of tissue.",
    "export_png": "Picture of the slide with the classes in colour, a legend and a scale bar.",
    "export_all": "All of these into one folder.",
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
    "train_report": "Open the training's report in the browser. It needs no network.",
    "train_use": "Choose the new model in the PLIMSeg dock.",
    "train_compare": "Run the new model and the one chosen here on what the window shows, and "
    "compare their masks.",
    "train_other": "The model to compare with.",
    "train_runs": "Earlier trainings on this computer.",
    "train_pictures": "Training images and what the network makes of them now. Click to enlarge.",
    "dismiss": "Hide this message.",
}
"""Text by control; a disabled control shows the reason instead."""
