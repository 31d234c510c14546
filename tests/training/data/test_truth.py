"""Truth masks: every number, color and name is a class, is reported, or is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from tifffile import TiffWriter, imwrite

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.results.export.label_tiff import export_label_tiff
from napari_plimseg.tissue import TissueClass, TissueClasses
from plimseg_training.config import chosen_recipe
from plimseg_training.data.datasets import TrainingData
from plimseg_training.data.entries import mask_ids
from plimseg_training.data.scan import scan_folder
from plimseg_training.data.tagged_folder import read_truth
from plimseg_training.data.truth import Choices, TruthKey
from tests.support.masks import info_for
from tests.support.tagged_folders import mask, picture

if TYPE_CHECKING:
    from pathlib import Path

    from plimseg_training.data.scan import FolderReport

RED, GREEN, GRAY, BLUE = (205, 51, 51), (255, 165, 0), (235, 235, 235), (0, 0, 255)
CLASSES = TissueClasses(
    (TissueClass("gland", RED), TissueClass("stroma", GREEN), TissueClass("background", GRAY)),
    has_background=True,
)
IDS = np.array([[1, 2], [3, 0]], np.uint8).repeat(20, 0).repeat(20, 1)


def key(*, maps: tuple[str, ...] = (), ignored: tuple[str, ...] = ()) -> TruthKey:
    return TruthKey(CLASSES, mask_ids(CLASSES), Choices.of(maps, ignored, CLASSES))


def colored(path: Path, ids: np.ndarray, fourth: tuple[int, int, int] = (0, 0, 0)) -> Path:
    table = np.array([fourth, RED, GREEN, GRAY], np.uint8)
    Image.fromarray(table[ids]).save(path)
    return path


def test_numbers_are_mask_ids(tmp_path: Path) -> None:
    values = IDS.copy()
    values[:2] = 255
    truth = key().read(mask(tmp_path / "m.png", values))
    np.testing.assert_array_equal(truth.ids, np.where(values == 255, 0, values))
    assert truth.blank == {"the value 0": 400, "the value 255": 80}
    assert truth.problem() == ""


def test_a_number_that_is_no_class_is_named_with_its_share(tmp_path: Path) -> None:
    path = mask(tmp_path / "m.png", np.where(IDS == 0, 7, IDS))
    truth = key().read(path)
    assert truth.problem() == "the mask has the value 7 (25 %), which is not a class"
    assert "--map '7=CLASS'" in key().remedy(truth)
    assert "1 = gland, 2 = stroma, 3 = background, 0 and 255 = not annotated" in key().known
    for choices, expected in ({"maps": ("7=stroma",)}, 2), ({"ignored": ("7",)}, 0):
        chosen = key(**choices).read(path)
        assert not chosen.unknown
        assert (chosen.ids[IDS == 0] == expected).all()


def test_zero_may_be_a_class(tmp_path: Path) -> None:
    chosen = key(maps=("0=gland", "1=stroma")).read(mask(tmp_path / "m.png", IDS % 2))
    np.testing.assert_array_equal(chosen.ids, IDS % 2 + 1)
    assert not chosen.blank


def test_colors_are_those_of_the_classes(tmp_path: Path) -> None:
    truth = key().read(colored(tmp_path / "m.png", IDS))
    np.testing.assert_array_equal(truth.ids, IDS)
    assert truth.blank == {"black": 400}
    path = colored(tmp_path / "blue.png", IDS, BLUE)
    truth = key().read(path)
    assert truth.problem() == "the mask has the color #0000ff (25 %), which is not a class"
    assert (key(maps=("#0000FF=gland",)).read(path).ids[IDS == 0] == 1).all()
    assert not key(ignored=("*",)).read(path).unknown


def test_smoothed_colors_are_said_to_be(tmp_path: Path) -> None:
    image = Image.open(colored(tmp_path / "m.png", IDS))
    image.resize((90, 90), Image.Resampling.BILINEAR).save(tmp_path / "smooth.png")
    truth = key().read(tmp_path / "smooth.png")
    assert " more (" in truth.problem()
    assert "nearest-neighbor" in key().remedy(truth)


def test_the_colors_of_a_palette_decide_where_they_are_those_of_classes(tmp_path: Path) -> None:
    # as a program writes them that sorts the palette by frequency
    palette = [*GREEN, *RED, *GRAY]
    path = mask(tmp_path / "m.png", np.array([[1, 0], [2, 2]]).repeat(20, 0), palette)
    np.testing.assert_array_equal(key().read(path).ids[::20], [[1, 2], [3, 3]])
    other = mask(tmp_path / "o.png", IDS, [*BLUE, *RED, *GREEN, *GRAY])
    np.testing.assert_array_equal(key().read(other).ids, IDS)


@pytest.mark.parametrize("name", ["m.jpg", "m.webp", "m.tif"])
def test_lossy_masks_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    options = {"compression": "jpeg"} if name == "m.tif" else {}
    Image.open(colored(tmp_path / "m.png", IDS)).save(tmp_path / name, **options)
    with pytest.raises(TagError, match=r"with losses, which changes.*as PNG"):
        key().read(tmp_path / name)


@pytest.mark.parametrize("options", [{"lossless": True}, {"compression": "tiff_lzw"}])
def test_exact_masks_of_these_formats_are_read(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / ("m.webp" if "lossless" in options else "m.tif")
    Image.open(colored(tmp_path / "m.png", IDS)).save(path, **options)
    np.testing.assert_array_equal(key().read(path).ids, IDS)


def test_a_mask_of_several_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    imwrite(path, np.stack([IDS == 1, IDS == 2]).astype(np.uint8), photometric="minisblack")
    with pytest.raises(TagError, match="holds 2 pictures, of which only the first"):
        key().read(path)
    with TiffWriter(tmp_path / "pyramid.tif") as writer:  # levels are no further pictures
        for level in (IDS, IDS[::2, ::2]):
            writer.write(level, photometric="minisblack", subfiletype=int(level is not IDS))
    np.testing.assert_array_equal(key().read(tmp_path / "pyramid.tif").ids, IDS)


def test_what_is_transparent_is_not_annotated(tmp_path: Path) -> None:
    picture = Image.open(colored(tmp_path / "m.png", IDS)).convert("RGBA")
    pixels = np.array(picture)
    pixels[:10, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "t.png")
    ids = key().read(tmp_path / "t.png").ids
    assert not ids[:10].any()
    np.testing.assert_array_equal(ids[10:], IDS[10:])


def test_64_bit_numbers_are_said_to_be(tmp_path: Path) -> None:
    imwrite(tmp_path / "m.tif", IDS.astype(np.int64), photometric="minisblack")
    with pytest.raises(TagError, match=r"64-bit numbers.*Save it as an 8-bit PNG"):
        key().read(tmp_path / "m.tif")


def test_our_own_label_tiff_has_its_class_names(tmp_path: Path) -> None:
    own = TissueClasses(
        (
            TissueClass("fat", (1, 2, 3)), TissueClass("Glands", (4, 5, 6)),
            TissueClass("stroma", (7, 8, 9)), TissueClass("background", GRAY),
        ),
        has_background=True,
    )  # fmt: skip
    values = np.array([[2, 3], [4, 0]], np.uint8).repeat(20, 0).repeat(20, 1)
    path = tmp_path / "a.mask.ome.tif"
    export_label_tiff(path, values, replace(info_for(values), classes=own))
    truth = key().read(path)
    np.testing.assert_array_equal(truth.ids, IDS)
    assert truth.info is not None
    values[0, 0] = 1
    export_label_tiff(path, values, replace(info_for(values), classes=own))
    truth = key().read(path)
    assert truth.problem() == "the mask has the class 'fat' (0.06 %), which is not a class"
    assert key(maps=("fat=stroma",)).read(path).ids[0, 0] == 2
    assert key(ignored=("fat",)).read(path).ids[0, 0] == 0


def folder_of(tmp_path: Path, values: np.ndarray, name: str = "a.png") -> Path:
    for stem in ("a", "b"):
        picture(tmp_path / "img" / f"{stem}.png", values.shape)
        mask(tmp_path / "mask" / name.replace("a", stem, 1), values)
    return tmp_path


def scan(root: Path, **options: object) -> FolderReport:
    return scan_folder(root, classes=CLASSES, mpp=0.5, split="test", **options)


def test_masks_beside_images_hold_mask_ids(tmp_path: Path) -> None:
    root = folder_of(tmp_path, IDS)
    report = scan(root)
    folder = report.raise_if_fatal()
    np.testing.assert_array_equal(read_truth(folder.images[0], folder), IDS)
    (note,) = report.problems
    assert "the value 0 (25 %) count as not annotated" in note.text
    folder = scan(root, maps=("0=gland",)).raise_if_fatal()
    assert read_truth(folder.images[0], folder)[-1, -1] == 1
    assert not scan(folder_of(tmp_path, IDS % 3 + 1)).problems


def test_a_wrong_value_in_a_folder_stops_it(tmp_path: Path) -> None:
    report = scan(folder_of(tmp_path, np.where(IDS == 0, 7, IDS)))
    assert [p.file for p in report.fatal] == ["mask/a.png", "mask/b.png"]
    assert "the value 7 (25 %)" in report.table()


def test_label_tiffs_beside_images_are_found(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        picture(tmp_path / "img" / f"{stem}.png", IDS.shape)
        (tmp_path / "mask").mkdir(exist_ok=True)
        info = replace(info_for(IDS), classes=CLASSES)
        export_label_tiff(tmp_path / "mask" / f"{stem}.mask.ome.tif", IDS, info)
    folder = scan(tmp_path).raise_if_fatal()
    np.testing.assert_array_equal(read_truth(folder.images[1], folder), IDS)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_part_for_scoring_may_show_one_class(tmp_path: Path, split: str) -> None:
    folder_of(tmp_path, np.ones((40, 40)))
    assert not scan_folder(tmp_path, classes=CLASSES, mpp=0.5, split=split).problems
    assert scan_folder(tmp_path, classes=CLASSES, mpp=0.5).fatal[0].kind == "one class"


@pytest.mark.parametrize(
    ("maps", "ignored", "says"),
    [
        (("fat",), (), "does not name two classes"),
        (("fat=",), (), "does not name two classes"),
        (("fat=glnd",), (), "Did you mean 'gland'"),
        (("fat=gland", "Fat=stroma"), (), "gives '.*' two classes"),
        (("fat=gland",), ("fat",), "gives '.*' two classes"),
    ],
)
def test_choices_that_say_nothing(
    maps: tuple[str, ...], ignored: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        Choices.of(maps, ignored, CLASSES)
    assert "--map or the key 'data.map'" in str(raised.value)


def test_a_recipe_says_what_values_of_masks_mean(tmp_path: Path) -> None:
    for stem, tags in (("a", "1,0"), ("b", "0,1")):
        picture(tmp_path / f"{stem}.png", IDS.shape)
        mask(tmp_path / f"truth-{stem}.png", np.where(IDS == 3, 9, np.where(IDS == 0, 8, IDS)))
        with (tmp_path / "tags.csv").open("a") as table:
            table.write("file,gland,stroma,truth\n" if stem == "a" else "")
            table.write(f"{stem}.png,{tags},truth-{stem}.png\n")
    recipe = chosen_recipe("bundled").override(
        [f"data.train={tmp_path}", "data.mpp=0.5", "data.validation_fraction=0"]
    )
    recipe = replace(recipe, data=replace(recipe.data, classes=CLASSES.to_dict()))
    with pytest.raises(TagError, match=r"value [89].*in a recipe: data\.map and data\.ignore"):
        TrainingData.of(recipe)
    decided = recipe.override(["data.map={9: stroma}", "data.ignore=[8]"])
    folder = TrainingData.of(decided).train
    expected = np.where(IDS == 3, 2, IDS)
    np.testing.assert_array_equal(read_truth(folder.images[0], folder), expected)
    same = recipe.with_masks_read(["9=stroma"], ["8"])
    assert same == decided
    with pytest.raises(ConfigError, match=r"the key 'data\.map' names 'strma'.*'stroma'"):
        TrainingData.of(recipe.override("data.map={9: strma}"))
