"""Cutting annotated slides and images: what is cut is read back with the same tags."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite

from napari_plimseg.errors import ConfigError, SlideError, TagError
from napari_plimseg.results.export.label_tiff import export_label_tiff
from napari_plimseg.slides.opening import open_slide
from napari_plimseg.slides.slide import Region
from napari_plimseg.tissue import TissueClass, TissueClasses
from plimseg_training.data.annotations import read_annotation
from plimseg_training.data.cut import cut_patches
from plimseg_training.data.scan import scan_folder
from plimseg_training.data.tagged_folder import read_pixels
from tests.support.masks import info_for
from tests.support.slides import write_tiff
from tests.support.tagged_folders import mask, picture

TWO = TissueClasses(
    (TissueClass("tumour", (255, 0, 0)), TissueClass("stroma", (0, 255, 0))), has_background=False
)


def box(name, x, y, width, height):
    ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def write(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def halves(tmp_path, height=128, width=256):
    """Return an image whose left half is tumour and right half stroma, with its mask."""
    image = picture(tmp_path / "case 1.png", (height, width))
    values = np.ones((height, width))
    values[:, width // 2 :] = 2
    return image, mask(tmp_path / "drawn.png", values), values


def test_real_slide_with_outlines(tmp_path, sample_path):
    drawn = write(
        tmp_path / "drawn.geojson",
        box("Tumor", 400, 600, 800, 700),
        box("stroma", 900, 700, 200, 400),  # smaller, so it lies on top
        box("Ignore*", 400, 600, 100, 100),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}},
    )
    out = tmp_path / "patches"
    told = []
    summary = cut_patches(
        sample_path, drawn, out, patch=64, stride=64, classes=TWO, mpp=1.0,
        on_progress=lambda *now: told.append(now),
    )  # fmt: skip
    assert summary.written == summary.patches > 20
    assert told[-1][0] == told[-1][1] == len(told)
    report = scan_folder(out)
    folder = report.raise_if_fatal()
    assert folder.layout == "csv"
    assert folder.mpp == pytest.approx(0.998)
    assert folder.groups == (sample_path.stem,)
    assert tuple(folder.tag_counts()) == summary.tag_counts
    with open_slide(sample_path) as slide:
        for image in folder.images[::5]:
            x, y = (int(part) for part in image.name.rsplit("-", 2)[1:])
            pixels = read_pixels(image)
            assert (pixels == slide.read_at(2.0, y // 2, x // 2, 64, 64)).all()
            truth = np.zeros((3000, 3000), np.uint8)
            truth[600:1300, 400:1200] = 1
            truth[700:1100, 900:1100] = 2
            truth[600:700, 400:500] = 0
            part = truth[y : y + 128, x : x + 128][::2, ::2]
            assert image.tags.tolist() == [[int((part == k).mean() >= 0.05) for k in (1, 2)]]


def test_a_second_run_writes_only_what_is_missing(tmp_path):
    image, drawn, _ = halves(tmp_path)
    out = tmp_path / "out"
    options = {"patch": 64, "stride": 64, "classes": TWO}
    first = cut_patches(image, drawn, out, **options)
    assert (first.patches, first.written, first.tag_counts) == (8, 8, (4, 4))
    files = sorted(out.glob("*.png"))
    table = (out / "tags.csv").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in files}
    files[3].unlink()
    (out / "tags.csv").unlink()
    assert cut_patches(image, drawn, out, **options).written == 1
    assert (out / "tags.csv").read_bytes() == table
    assert all(files[i].stat().st_mtime_ns == stamps[files[i]] for i in (0, 1, 2, 4, 5, 6, 7))
    assert not list(out.glob(".partial-*"))


def test_an_interrupted_run_leaves_no_half_table(tmp_path):
    image, drawn, _ = halves(tmp_path)

    def stop(done, _):
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    options = {"patch": 64, "stride": 64, "classes": TWO}
    with pytest.raises(KeyboardInterrupt):
        cut_patches(image, drawn, out, on_progress=stop, **options)
    assert len(list(out.glob("*.png"))) == 3
    assert not (out / "tags.csv").exists()
    assert cut_patches(image, drawn, out, **options).written == 5


def test_windows_of_a_plain_image(tmp_path):
    image, drawn, values = halves(tmp_path, 100, 250)
    out = tmp_path / "deep" / "out"
    summary = cut_patches(
        image, drawn, out, patch=64, stride=32, classes=TWO, write_images=False
    )  # fmt: skip
    assert not list(out.glob("*.png"))
    folder = scan_folder(out, mpp=0.5).raise_if_fatal()
    (tagged,) = folder.images
    assert tagged.path.resolve() == image.resolve()
    assert len(tagged.windows) == summary.patches == 3 * 7
    for (y, x, h, w), tags in zip(tagged.windows, tagged.tags, strict=True):
        part = values[y : y + h, x : x + w]
        assert tags.tolist() == [int((part == k).mean() >= 0.05) for k in (1, 2)]


def test_windows_need_a_plain_image_at_its_own_resolution(tmp_path, sample_path):
    drawn = write(tmp_path / "a.geojson", box("tumour", 0, 0, 500, 500))
    with pytest.raises(ConfigError, match="plain image"):
        cut_patches(
            sample_path, drawn, tmp_path, patch=64, stride=64, classes=TWO, write_images=False
        )


def test_several_slides_into_one_folder(tmp_path):
    out = tmp_path / "out"
    for name in ("a", "b"):
        image, _, _ = halves(tmp_path / name)
        image.rename(image.with_name(f"{name}.png"))
    for name in ("a", "b", "a"):
        image, drawn = (tmp_path / name / file for file in (f"{name}.png", "drawn.png"))
        cut_patches(image, drawn, out, patch=64, stride=64, classes=TWO)
    rows = rows_of(out / "tags.csv")
    assert len(rows) == 16
    assert scan_folder(out).raise_if_fatal().groups == ("a", "b")


def test_tissue_that_nobody_annotated_is_left_out(tmp_path):
    image, drawn, values = halves(tmp_path)
    values[:, :48] = 0
    mask(drawn, values)
    summary = cut_patches(image, drawn, tmp_path / "a", patch=64, stride=64, classes=TWO)
    assert summary.patches == 6
    pixels = np.asarray(Image.open(image)).copy()
    pixels[:, :48] = 240  # glass needs no annotation
    Image.fromarray(pixels).save(image)
    summary = cut_patches(image, drawn, tmp_path / "b", patch=64, stride=64, classes=TWO)
    assert summary.patches == 8


def test_masks_at_another_scale_and_with_other_values(tmp_path):
    image, _, values = halves(tmp_path)
    small = mask(tmp_path / "small.png", np.where(values[::4, ::4] == 1, 7, 0))
    with open_slide(image) as slide:
        drawn = read_annotation(small, slide, TWO, {7: 1, 0: 2})
        assert (drawn.ids(0, 0, 128, 256, 1.0) == values).all()
        assert (drawn.ids(0, 0, 64, 128, 2.0) == values[::2, ::2]).all()
        assert drawn.ids(-2, 250, 4, 12, 1.0).tolist() == [[0] * 12] * 2 + [[2] * 6 + [0] * 6] * 2


def test_annotations_count_from_the_scanned_part(tmp_path):
    drawn = write(tmp_path / "a.geojson", box("stroma", 0, 0, 20, 10))
    covers = mask(tmp_path / "covers.png", np.ones((20, 40)))
    with open_slide(picture(tmp_path / "slide.png", (90, 120))) as slide:
        slide.bounds = Region(30, 50, 40, 80)
        ids = read_annotation(drawn, slide, TWO).ids(0, 0, 90, 120, 1.0)
        assert (ids[30:40, 50:70] == 2).all()
        assert ids.sum() == 2 * 200
        whole = read_annotation(covers, slide, TWO).ids(0, 0, 90, 140, 1.0)
        assert (whole[30:70, 50:130] == 1).all()
        assert whole.sum() == 40 * 80


def test_a_pixel_has_the_class_of_its_centre(tmp_path):
    image, _, _ = halves(tmp_path, 66, 66)
    values = np.tile([1, 2], (66, 33))
    drawn = mask(tmp_path / "stripes.png", values)
    with open_slide(image) as slide:
        ids = read_annotation(drawn, slide, TWO).ids(0, 0, 22, 22, 3.0)
    assert (ids == values[1::3, 1::3]).all()


@pytest.mark.parametrize(
    ("content", "says", "remedy"),
    [
        ("{", "not readable JSON", "Export it from QuPath"),
        (" ", "it is empty", "Export it from QuPath"),
        ("3", "without a list of features", "Export it from QuPath"),
        (
            json.dumps([box("tumor nest", 0, 0, 9, 9)]),
            "'tumor nest' (1), which is not a class",
            "Known",
        ),
        (
            json.dumps([{**box("tumour", 0, 0, 9, 9), "geometry": None}]),
            "none of its outlines has a class (have no area (points or lines): 1)",
            "Set the class",
        ),
        (json.dumps([box("tumour", 0, 1e300, 9, 9)]), "not a valid geometry", "Delete it"),
        (json.dumps([box(None, 0, 0, 9, 9)]), "none of its outlines has a class", "Set the class"),
        (
            json.dumps([box("tumour", 5000, 0, 9, 9)]),
            "none of its outlines on the slide has a class (are outside of the slide: 1)",
            "of this slide",
        ),
    ],
)
def test_annotations_that_can_not_be_used(tmp_path, content, says, remedy):
    image, _, _ = halves(tmp_path)
    drawn = tmp_path / "drawn.geojson"
    drawn.write_text(content)
    with pytest.raises(TagError) as caught:
        cut_patches(image, drawn, tmp_path / "out", patch=64, stride=64, classes=TWO)
    assert says in str(caught.value)
    assert remedy in str(caught.value)


def test_an_outline_that_crosses_itself_is_mended(tmp_path):
    image, _, _ = halves(tmp_path)
    bow = box("tumour", 0, 0, 64, 64)
    bow["geometry"]["coordinates"] = [[[0, 0], [64, 64], [64, 0], [0, 64], [0, 0]]]
    drawn = write(tmp_path / "bow.geojson", bow)
    with open_slide(image) as slide:
        ids = read_annotation(drawn, slide, TWO).ids(0, 0, 64, 64, 1.0)
    assert ids.mean() == pytest.approx(0.5, abs=0.02)
    assert (ids[32, 2], ids[32, 62], ids[2, 32]) == (1, 1, 0)


def test_masks_that_can_not_be_used(tmp_path):
    image, _, values = halves(tmp_path)
    for name, wrong, says in (
        ("values", values * 3, "the value 3"),
        ("shape", values[:, :128], "not the shape of the slide"),
        ("nothing", values * 0, "contains no class"),
    ):
        drawn = mask(tmp_path / f"{name}.png", wrong)
        with pytest.raises(TagError, match=says):
            cut_patches(image, drawn, tmp_path / "out", patch=64, stride=64, classes=TWO)
    with pytest.raises(TagError, match="the slide itself"):
        cut_patches(image, image, tmp_path / "out", patch=64, stride=64, classes=TWO)


def test_patches_of_other_settings_are_not_mixed(tmp_path):
    image, drawn, values = halves(tmp_path)
    out = tmp_path / "out"
    options = {"patch": 64, "stride": 64, "classes": TWO}
    cut_patches(image, drawn, out, **options)
    with pytest.raises(TagError, match="another patch"):
        cut_patches(image, drawn, out, **{**options, "patch": 32})
    three = TWO.with_class(TissueClass("necrosis", (0, 0, 1)))
    with pytest.raises(TagError, match="with the classes tumour, stroma"):
        cut_patches(image, drawn, out, **{**options, "classes": three})
    picture(image, values.shape)
    with pytest.raises(TagError, match="another slide"):
        cut_patches(image, drawn, out, **options)
    own = tmp_path / "own"
    own.mkdir()
    (own / "tags.csv").write_text("file,tumour\n")
    with pytest.raises(TagError, match="a table of another origin"):
        cut_patches(image, drawn, own, **options)
    assert (own / "tags.csv").read_text() == "file,tumour\n"


def test_slides_of_one_name_in_several_folders(tmp_path):
    out = tmp_path / "out"
    for folder, color in (("p1", 40), ("p2", 90), ("P3", 140), ("p1", 40)):
        image, drawn, values = halves(tmp_path / folder)
        name = "SLIDE.png" if folder == "P3" else "slide.png"
        named = image.rename(image.with_name(name))
        Image.fromarray(np.full((*values.shape, 3), color, np.uint8)).save(named)
        made = cut_patches(named, drawn, out, patch=64, stride=64, classes=TWO)
        assert made.patches == 8
    rows = rows_of(out / "tags.csv")
    assert len(rows) == 24
    groups = {row["group"] for row in rows}
    assert len({name.casefold() for name in groups}) == 3
    assert len({row["file"].casefold() for row in rows}) == 24
    colors = {
        group: {
            int(np.asarray(Image.open(out / row["file"])).mean())
            for row in rows
            if row["group"] == group
        }
        for group in groups
    }
    assert sorted(colors.values(), key=min) == [{40}, {90}, {140}]
    assert "p1" not in (out / "cut.json").read_text()


def test_another_pixel_size_than_the_files_has_to_be_meant(tmp_path):
    source = write_tiff(
        tmp_path / "a.tif",
        [np.full((128, 128, 3), 120, np.uint8)],
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    drawn = mask(tmp_path / "drawn.png", np.ones((128, 128)))
    options = {"patch": 64, "stride": 64, "classes": TWO, "source_mpp": 0.25}
    with pytest.raises(SlideError, match=r"says 0\.5 um per pixel, not 0\.25"):
        cut_patches(source, drawn, tmp_path / "out", **options)
    made = cut_patches(source, drawn, tmp_path / "out", override_mpp=True, **options)
    assert {row["mpp"] for row in rows_of(made.table)} == {"0.25"}


def test_settings_that_make_no_sense(tmp_path):
    image, drawn, _ = halves(tmp_path)
    for wrong in ({"patch": 16}, {"stride": 0}, {"minimum_fraction": 0}, {"maximum_unknown": 2}):
        options = {"patch": 64, "stride": 64, "classes": TWO, **wrong}
        with pytest.raises(ConfigError):
            cut_patches(image, drawn, tmp_path / "out", **options)
    with pytest.raises(SlideError, match="pixel size is unknown"):
        cut_patches(image, drawn, tmp_path / "out", patch=64, stride=64, classes=TWO, mpp=0.5)


def test_black_fill_counts_as_empty_as_white_does(tmp_path):
    counts = []
    for color in (255, 0):
        pixels = np.full((64, 128, 3), 150, np.uint8)
        pixels[:, 20:64] = color
        Image.fromarray(pixels).save(tmp_path / f"{color}.png")
        values = np.zeros((64, 128))
        values[:, :20] = values[:, 64:] = 1
        drawn = mask(tmp_path / f"{color} drawn.png", values)
        made = cut_patches(
            tmp_path / f"{color}.png", drawn, tmp_path / f"{color}",
            patch=64, stride=64, classes=TWO,
        )  # fmt: skip
        counts.append(made.patches)
    assert counts == [2, 2]


def test_black_fill_is_white_in_patches(tmp_path):
    pixels = np.full((512, 512, 3), 150, np.uint8)
    pixels[:, 200:] = 0
    imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(256, 256),
            resolution=(20_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
    drawn = mask(tmp_path / "drawn.png", np.where(pixels[..., 0] > 0, 1, 0))
    made = cut_patches(
        tmp_path / "a.tif", drawn, tmp_path / "out", patch=256, stride=256, classes=TWO
    )
    assert made.patches == 2
    for path in (tmp_path / "out").glob("*.png"):
        values = np.asarray(Image.open(path))
        assert (values[:, :190] == 150).all()
        assert (values[:, 210:] == 255).all()


FORMS = {
    "0.2": {"classification": {"name": "tumour", "colorRGB": -3670016}},
    "0.2 derived": {"classification": {"name": "tumour: Positive", "colorRGB": -3670016}},
    "0.4": {"classification": {"name": "tumour", "color": [200, 0, 0]}},
    "0.4 derived": {"classification": {"names": ["tumour", "Positive"], "color": [200, 0, 0]}},
    "names of one": {"classification": {"names": ["tumour"]}},
    "text": {"classification": "tumour"},
    "another program": {"label": "Tumour"},
}


def packed(path, text):
    """Write text as the ending of the path says."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner/drawn.geojson", text)
            archive.writestr("__MACOSX/._drawn.geojson", "resource fork")
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", [".geojson", ".geojson.gz", ".zip", ".txt"])
def test_every_form_of_a_class_is_read(tmp_path, form, ending):
    image, _, _ = halves(tmp_path)
    left = box("", 0, 0, 128, 128) | {"properties": FORMS[form]}
    text = json.dumps(
        {"type": "FeatureCollection", "features": [left, box("stroma", 128, 0, 128, 128)]}
    )
    drawn = packed(tmp_path / f"drawn{ending}", text)
    found = cut_patches(image, drawn, tmp_path / "out", patch=64, stride=64, classes=TWO)
    assert found.tag_counts == (4, 4)
    derived = ("outlines of 'tumour: Positive': 1, count as 'tumour'",)
    assert found.notes == (derived if "derived" in form else ())


def test_what_of_the_outlines_is_not_used_is_said(tmp_path):
    image, _, _ = halves(tmp_path)
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
    drawn = write(
        tmp_path / "drawn.geojson", box("tumour", 0, 0, 128, 128), box("stroma", 128, 0, 128, 128),
        box(None, 0, 0, 9, 9), box("stroma", 9000, 0, 9, 9), point,
        {**point, "geometry": None},
    )  # fmt: skip
    found = cut_patches(image, drawn, tmp_path / "out", patch=64, stride=64, classes=TWO)
    assert found.notes == (
        "outlines that have no class: 1, left out",
        "outlines that are outside of the slide: 1, left out",
        "outlines that have no area (points or lines): 2, left out",
    )


def test_unknown_classes_are_counted_and_the_user_decides(tmp_path):
    image, _, _ = halves(tmp_path)
    drawn = write(
        tmp_path / "drawn.geojson", box("tumour", 0, 0, 128, 128), box("Fat", 128, 0, 64, 128),
        box("Fat", 192, 0, 64, 128), box("Ink", 0, 0, 9, 9), box("Ink: blue", 0, 0, 9, 9),
    )  # fmt: skip
    options = {"patch": 64, "stride": 64, "classes": TWO}
    with pytest.raises(
        TagError, match=r"'Fat' \(2\), 'Ink' \(1\), 'Ink: blue' \(1\).*--map 'Fat=CLASS'"
    ):
        cut_patches(image, drawn, tmp_path / "out", **options)
    found = cut_patches(
        image, drawn, tmp_path / "out", maps=["Fat=stroma"], ignored=["ink"], **options
    )
    assert found.tag_counts == (4, 4)
    assert found.notes == (
        "outlines of 'Ink: blue': 1, count as 'Ink'", "outlines of 'Ink': 1, ignored",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.geojson.gz", gzip.compress(b"[" * 9, mtime=0)[:-9], "it can't be unpacked"),
        ("a.zip", b"PK\x03\x04 and no more", "it can't be unpacked"),
        ("a.xml", b"<?xml version='1.0'?><ASAP/>", "it is XML"),
        ("a.zip", b"PK\x05\x06" + bytes(18), "the archive holds no files .geojson or .json"),
        ("a.txt", b'{"type": "FeatureCollection"}', "none of its outlines has a class"),
        ("a.qpdata", b"\xac\xed\0\5", "it is not a PNG, JPEG"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, name, content, says):
    image, _, _ = halves(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TagError, match=says):
        cut_patches(image, tmp_path / name, tmp_path / "o", patch=64, stride=64, classes=TWO)


def test_outlines_unpack_within_the_limit(tmp_path, monkeypatch):
    image, _, _ = halves(tmp_path)
    monkeypatch.setenv("PLIMSEG_LIMITS", "annotation-bytes=1MB")
    for ending in (".geojson.gz", ".zip"):
        drawn = packed(tmp_path / f"drawn{ending}", " " * 3_000_000)
        with pytest.raises(TagError, match=r"annotation-bytes' is 1.0 MB"):
            cut_patches(image, drawn, tmp_path / "o", patch=64, stride=64, classes=TWO)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a.geojson", "b.geojson"):
            archive.writestr(name, "{}")
    with pytest.raises(TagError, match="the archive holds 2 files"):
        cut_patches(image, tmp_path / "two.zip", tmp_path / "o", patch=64, stride=64, classes=TWO)


def test_a_label_tiff_of_the_whole_slide_lies_where_it_was_made(tmp_path):
    image, _, values = halves(tmp_path)
    ids = values[::4, ::4].astype(np.uint8)
    own = TissueClasses((TWO[1], TWO[0]), has_background=False)  # in another order
    with open_slide(image) as slide:
        info = replace(
            info_for(ids), classes=own, slide_shape=slide.shape, bounds=slide.bounds, downsample=4.0
        )
    drawn = tmp_path / "drawn.mask.ome.tif"
    export_label_tiff(drawn, ids, info)
    found = cut_patches(image, drawn, tmp_path / "out", patch=64, stride=64, classes=TWO)
    assert [row["tumour"] for row in rows_of(found.table)] == list("00110011")
    export_label_tiff(drawn, ids, replace(info, slide_shape=(128, 300)))
    with pytest.raises(TagError, match="belongs to a slide of 300 x 128 px"):
        cut_patches(image, drawn, tmp_path / "o", patch=64, stride=64, classes=TWO)
