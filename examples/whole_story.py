"""The whole story in cells: open, segment with words, measure, correct, export.

Each `# %%` is a cell for VS Code, Spyder, PyCharm or Jupytext; it runs as a script as well.
"""

# %% A slide: one ships with the package
from pathlib import Path

import numpy as np

import napari_plimseg
from napari_plimseg import Region, Segmentation, open_slide, segment
from napari_plimseg.results import Corrections

slide_path = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
with open_slide(slide_path) as slide:
    print(slide)
    thumbnail = slide.thumbnail(512)  # (y, x, 3) uint8

# %% Segment a part of it with words; leave out `region` for the whole slide
result = segment(
    slide_path,
    classes=["adipose tissue", "fibrous stroma", "lymphocytes"],
    region=Region(1200, 900, 800, 800),
    out="story-results",
    progress=True,
)
print(result.store_path)

# %% The mask is a NumPy array of class numbers, 0 where nothing was computed
mask = result.mask
print(mask.shape, mask.dtype, dict(enumerate(result.info.classes.names, start=1)))

# %% Areas are rows; pandas.DataFrame(result.areas()) makes a table of them
for row in result.areas():
    print(f"{row.name:20} {row.pixels:8} px {row.mm2:.4f} mm2")

# %% Correct it. In napari: result.view(), paint, close. A program writes the same corrections:
top, left = np.argwhere(mask > 0).min(0)
stroma = result.info.classes.mask_id("fibrous stroma")
corrections = Corrections.open(result.store_path.parent, result.info)
corrections.write(int(top), int(left), np.full((40, 40), stroma, np.uint8))
corrections.flush_and_release()

# %% Mask, areas and exports include corrections; the model's output stays in the store
print(f"{(result.mask != mask).sum()} pixels corrected")
for row in result.areas():
    print(f"{row.name:20} {row.pixels:8} px {row.mm2:.4f} mm2")

# %% Files for other programs. Outlines as a GeoDataFrame: result.to_geodataframe(),
# which needs pip install "napari-plimseg[geo]"
for file in result.export("story-results"):
    print("wrote", file)

# %% On another day
again = Segmentation.open(result.store_path, slide_path)
print(again.info.slide_name, again.info.model_name)
