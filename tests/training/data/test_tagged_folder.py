"""Tagged folders: every layout is read as its data set means it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import TagError
from napari_plimseg.tissue import (
    BCSS_WSSS,
    COLORECTAL,
    GLAS,
    LUAD_HISTOSEG,
    WSSS4LUAD,
    TissueClass,
    TissueClasses,
)
from plimseg_training.data.entries import Problem, made_classes
from plimseg_training.data.images import read_rgb
from plimseg_training.data.layouts import has_part
from plimseg_training.data.scan import FolderReport, check_validation, scan_folder, shared_pictures
from plimseg_training.data.tagged_folder import TaggedFolder, TaggedImage, read_pixels, read_truth
from tests.support.tagged_folders import csv_folder, good_rows, mask, named_folder, picture

if TYPE_CHECKING:
    from pathlib import Path

TWO = TissueClasses(
    (TissueClass("tumour", (255, 0, 0)), TissueClass("stroma", (0, 255, 0), ("desmoplasia",))),
    has_background=False,
)
WSSS4LUAD_PALETTE = [0, 64, 128, 64, 128, 0, 243, 152, 0, 255, 255, 255]
LUAD_PALETTE = [205, 51, 51, 0, 255, 0, 65, 105, 225, 255, 165, 0, 255, 255, 255]


def tags_of(folder):
    return {image.path.name: image.tags.tolist() for image in folder.images}


def kinds(report):
    return [problem.kind for problem in report.problems]


# the data sets of the shared folder


def test_glas_is_cut_as_oeem_cuts_it(shared_data):
    folder = scan_folder(shared_data / "glas").raise_if_fatal()
    assert (folder.layout, folder.mpp, len(folder.images)) == ("glas", 0.62, 85)
    assert folder.classes is GLAS
    tags = np.concatenate([image.tags for image in folder.images])
    counted = [(tags == row).all(1).sum() for row in ([1, 0], [1, 1], [0, 1])]
    assert (len(tags), counted) == (9703, [1123, 6956, 1624])
    first = [image for image in folder.images if int(image.name.split("_")[1]) <= 70]
    assert sum(len(image.tags) for image in first) == 7985
    assert len(folder.groups) == 15
    image = folder.images[0]
    assert (image.name, image.group) == ("train_1", "patient 2")
    truth = read_truth(image, folder)
    y, x, h, w = image.windows[37]
    part = truth[y : y + h, x : x + w]
    assert image.tags[37].tolist() == [int((part == k).mean() > 0.05) for k in (1, 2)]


def test_wsss4luad_is_cut_into_the_windows_measured_before(shared_data):
    folder = scan_folder(shared_data / "wsss4luad").raise_if_fatal()
    assert (folder.layout, len(folder.images), folder.mpp) == ("wsss4luad", 31, 1.0)
    tags = np.concatenate([image.tags for image in folder.images])
    assert len(tags) == 413
    assert (tags == [1, 1, 0]).all(1).sum() == 288
    assert (tags == [1, 0, 0]).all(1).sum() == 11
    assert set(np.unique(read_truth(folder.images[0], folder))) == {1, 2, 4}
    tissue = TissueClasses(WSSS4LUAD.classes[:3], has_background=False)
    folder = scan_folder(shared_data / "wsss4luad", classes=tissue).raise_if_fatal()
    assert set(np.unique(read_truth(folder.images[0], folder))) == {0, 1, 2}
    whole = scan_folder(shared_data / "wsss4luad", split="validation").raise_if_fatal()
    assert [len(image.windows) for image in whole.images] == [1] * 31


def test_original_wsss4luad_patches(shared_data):
    folder = scan_folder(shared_data / "wsss4luad" / "train_examples").raise_if_fatal()
    assert folder.layout == "wsss4luad"
    assert tags_of(folder)["436219-9328-56427-[1, 1, 0].png"] == [[1, 1, 0]]
    assert folder.groups == ("1003370", "436219", "449636")


def test_class_folders_of_real_tissue(shared_data):
    report = scan_folder(shared_data / "nct-crc-samples" / "CRC-VAL-HE-7K", mpp=0.5)
    folder = report.raise_if_fatal()
    assert folder.classes.names == (
        "ADI", "LYM", "MUC", "MUS", "NORM", "STR", "TUM", "background"
    )  # fmt: skip
    assert folder.tag_counts().tolist() == [10] * 7
    assert kinds(report) == ["unknown groups"]


# layouts made here


def luad(root, training="training", validation="val"):
    named_folder(root / training, ["[1 0 0 1]", "[0 1 0 0]", "[0 0 1 1]", "[1 1 0 0]", "[0 0 1 0]"])
    for part in (validation, "test"):
        picture(root / part / "img" / "9000-1-2.png", (40, 40))
        values = np.full((40, 40), 4)
        values[:20] = 1
        values[0, 0] = 3
        mask(root / part / "mask" / "9000-1-2.png", values, LUAD_PALETTE)
    return root


@pytest.mark.parametrize(("training", "validation"), [("training", "val"), ("train", "valid")])
def test_luad_histoseg(tmp_path, training, validation):
    root = luad(tmp_path / "luad", training, validation)
    folder = scan_folder(root).raise_if_fatal()
    assert (folder.layout, folder.classes, folder.mpp) == ("luad_histoseg", LUAD_HISTOSEG, 1.0)
    assert folder.groups == ("1000", "1001", "1002", "1003")
    assert folder.tag_counts().tolist() == [2, 2, 2, 2]
    held = scan_folder(root, split="validation").raise_if_fatal()
    (image,) = held.images
    assert image.tags.tolist() == [[0, 1, 0, 1]]  # a single pixel counts, white does not
    truth = read_truth(image, held)
    assert (truth[0, 0], truth[0, 1], truth[-1, -1]) == (4, 2, LUAD_HISTOSEG.background_id)
    assert scan_folder(root, split="test").raise_if_fatal().images[0].truth is not None


def test_a_folder_of_images_and_masks_alone_is_for_validation(tmp_path):
    part = luad(tmp_path / "luad") / "val"
    report = check_validation(part)
    assert report.raise_if_fatal().layout == "luad_histoseg"  # told by the palette
    assert check_validation(csv_folder(tmp_path / "own", "file,a,b\n" + good_rows())).folder


def test_a_data_set_without_its_training_part(tmp_path):
    root = luad(tmp_path / "luad")
    shutil.rmtree(root / "training")
    assert scan_folder(root, split="validation").raise_if_fatal().layout == "luad_histoseg"


def test_original_parts_of_wsss4luad(tmp_path):
    named_folder(tmp_path / "1.training", ["[1, 0, 0]", "[0, 1, 1]"])
    part = tmp_path / "2.validation"
    picture(part / "img" / "00.png", (40, 40))
    for name in ("mask", "background-mask"):
        mask(part / name / "00.png", np.tile([0, 1, 1, 3], (40, 10)))
    held = scan_folder(tmp_path, split="validation").raise_if_fatal()
    assert (held.layout, held.images[0].tags.tolist()) == ("wsss4luad", [[1, 1, 0]])
    assert read_truth(held.images[0], held)[0, :4].tolist() == [1, 2, 2, 4]
    assert scan_folder(tmp_path).raise_if_fatal().images[1].tags.tolist() == [[0, 1, 1]]


def test_a_table_above_the_training_part(tmp_path):
    csv_folder(tmp_path, "file,tumour,stroma\ntrain/0.png,1,0\ntrain/1.png,0,1\n", 0)
    for i in range(2):
        picture(tmp_path / "train" / f"{i}.png")
    assert len(scan_folder(tmp_path).raise_if_fatal().images) == 2


def test_reading_tags_is_light():
    code = (
        "import sys, plimseg_training.data.tagged_folder; "
        "assert not {'torch', 'napari', 'qtpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bcss_wsss(tmp_path):
    for i, tags in enumerate(["1101", "0010", "1001", "0110"]):
        picture(tmp_path / "train" / f"TCGA-A1-A0S{i}-DX1_xmin1{i}_MPP-0.2500+0[{tags}].png")
    folder = scan_folder(tmp_path).raise_if_fatal()
    assert (folder.layout, folder.classes, folder.mpp) == ("bcss_wsss", BCSS_WSSS, 0.25)
    assert folder.groups[0] == "TCGA-A1-A0S0"
    assert folder.images[0].tags.tolist() == [[1, 1, 0, 1]]


def test_official_glas_download(tmp_path):
    picture(tmp_path / "train_1.bmp", (150, 170))
    values = np.zeros((150, 170))
    values[:60] = 3  # one number a gland
    values[:, :30] = 7
    mask(tmp_path / "train_1_anno.bmp", values)
    picture(tmp_path / "testA_1.bmp", (150, 170))
    mask(tmp_path / "testA_1_anno.bmp", values)
    (tmp_path / "Grade.csv").write_text(
        "name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)\n"
        "testA_1, 5, benign, adenomatous\ntrain_1, 2, malignant, moderately differentiated\n"
    )
    folder = scan_folder(tmp_path).raise_if_fatal()
    (image,) = folder.images
    assert (image.name, image.group) == ("train_1", "patient 2")
    assert image.windows.tolist() == [
        [y, x, 112, 112] for y in (0, 38) for x in (0, 56, 58)
    ]  # fmt: skip
    assert (read_truth(image, folder) == np.where(values > 0, 1, 2)).all()
    assert scan_folder(tmp_path, split="test").raise_if_fatal().images[0].name == "testA_1"


def test_a_test_part_of_glas_alone(tmp_path):
    for name in ("testA_1", "testB_12"):
        picture(tmp_path / "img" / f"{name}.png", (150, 170))
        mask(tmp_path / "masks" / f"{name}.png", np.tile([0, 1], (150, 85)))
    assert has_part(tmp_path, "test")
    assert not has_part(tmp_path, "train")
    folder = scan_folder(tmp_path, split="test").raise_if_fatal()
    assert (folder.layout, folder.groups) == ("glas", ("testA_1", "testB_12"))
    assert read_truth(folder.images[0], folder)[0, :2].tolist() == [2, 1]
    (tmp_path / "Grade.csv").write_text("name,patient ID\ntestA_1, 5\ntestB_12, 7\n")
    folder = scan_folder(tmp_path, split="test").raise_if_fatal()
    assert folder.groups == ("patient 5", "patient 7")
    with pytest.raises(TagError, match=r"no images 'train.*--part test"):
        scan_folder(tmp_path).raise_if_fatal()


def test_wsss4luad_by_the_palette_of_its_masks(tmp_path):
    values = np.tile([0, 1, 2, 3], (40, 12))
    picture(tmp_path / "img" / "10.png", values.shape)
    mask(tmp_path / "mask" / "10.png", values, WSSS4LUAD_PALETTE)
    folder = scan_folder(tmp_path).raise_if_fatal()
    assert (folder.layout, folder.classes) == ("wsss4luad", WSSS4LUAD)
    assert read_truth(folder.images[0], folder)[0, :4].tolist() == [1, 2, 3, 4]
    mask(tmp_path / "mask" / "10.png", values)
    with pytest.raises(TagError, match=r"images have masks.*order of the masks' values"):
        scan_folder(tmp_path).raise_if_fatal()


def test_csv_as_spreadsheets_write_it(tmp_path):
    rows = "".join(f"{i}.png;{i % 2};1.0;case {i % 3}\r\n" for i in range(6))
    table = "\r\n" + "File;Tumour;stroma;Slide\r\n" + rows
    folder = scan_folder(
        csv_folder(tmp_path, table, encoding="utf-8-sig"), mpp=0.5
    ).raise_if_fatal()
    assert folder.classes.names == ("Tumour", "stroma", "background")
    assert tags_of(folder)["1.png"] == [[1, 1]]
    assert folder.groups == ("case 0", "case 1", "case 2")
    assert folder.mpp == 0.5


def quoted(line):
    return f'"{line}"'


ROWS = [f"a{i}.png,{i % 2},{1 - i % 2}" for i in range(6)]
HEAD = "file,tumour,stroma"
SPREADSHEETS = {
    "sep line": "sep=;\r\n" + "\r\n".join([HEAD, *ROWS]).replace(",", ";"),
    "sep line in quotes": '"sep=;"\n' + "\n".join([HEAD, *ROWS]).replace(",", ";"),
    "sep of a bar": "SEP=|\n" + "\n".join([HEAD, *ROWS]).replace(",", "|"),
    "lines in quotes": "\n".join(map(quoted, [HEAD, *ROWS])),
    "lines in quotes and semicolons": "\n".join(f"{quoted(line)};;" for line in [HEAD, *ROWS]),
    "empty columns": "\n".join(f"{line},,," for line in [HEAD, *ROWS]),
    "an empty column between": "\n".join(line.replace(",", ",,", 1) for line in [HEAD, *ROWS]),
    "empty lines": "\n\n" + "\n,,\n".join([HEAD, *ROWS]),
    "German": "\n".join([HEAD, *ROWS]).replace("0", "FALSCH").replace("1", "WAHR")
    .replace("aFALSCH", "a0").replace("aWAHR", "a1").replace(",", ";"),
    "decimal commas": "\n".join([HEAD, *ROWS]).replace(",", ";")
    .replace(";0", ";0,0").replace(";1", ";1,0"),
    "mpp with a comma": "\n".join([f"mpp,{HEAD}", *(f"@,{row}" for row in ROWS)])
    .replace(",", ";").replace("@", "0,5"),
    "Windows paths": "\n".join([HEAD, *(f"C:\\Users\\me\\set\\{row}" for row in ROWS)]),
    "paths of another computer": "\n".join([HEAD, *(f"/home/me/set/{row}" for row in ROWS)]),
    "other case": "\n".join([HEAD, *(row.replace("a", "A").replace("png", "PNG") for row in ROWS)]),
    "no endings": "\n".join([HEAD, *(row.replace(".png", "") for row in ROWS)]),
    "tabs": "\n".join([HEAD, *ROWS]).replace(",", "\t"),
    "old line ends": "\r".join([HEAD, *ROWS]),
    "blanks": "\n".join([HEAD, *ROWS]).replace(",", " , "),
}  # fmt: skip


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_tables_of_any_spreadsheet_are_the_same_table(tmp_path, name):
    for i in range(6):
        picture(tmp_path / f"a{i}.png")
    (tmp_path / "tags.csv").write_bytes(SPREADSHEETS[name].encode())
    report = scan_folder(tmp_path, mpp=0.5)
    folder = report.raise_if_fatal()
    assert folder.classes.names == ("tumour", "stroma", "background")
    assert tags_of(folder) == {f"a{i}.png": [[i % 2, 1 - i % 2]] for i in range(6)}
    other = [p.text for p in report.problems if p.kind == "other name"]
    named = name in ("Windows paths", "paths of another computer", "other case", "no endings")
    assert len(other) == named
    if named:
        assert "6 files are named otherwise in the table" in other[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,mpp,a,b\na0.png,0,5,1,0\n", "5 cells where the first line has 4. A decimal comma"),
        ("file,a,b,\na0.png,1,0,1\n", "column 4 has no name"),
        ("file,a,b\nC:\\x\\none.png,1,0\n", "the table names 'C:/x/none.png'"),
    ],
)
def test_what_a_spreadsheet_made_of_a_table_is_said(tmp_path, text, says):
    picture(tmp_path / "a0.png")
    (tmp_path / "tags.csv").write_text(text)
    assert says in scan_folder(tmp_path).table()


def test_words_that_are_not_in_quotes(tmp_path):
    table = "file,tags\n0.png,tumour,stroma\n1.png,Stroma\n2.png,tumour\n"
    folder = scan_folder(csv_folder(tmp_path, table, files=3)).raise_if_fatal()
    assert tags_of(folder) == {"0.png": [[1, 1]], "1.png": [[0, 1]], "2.png": [[1, 0]]}


def test_two_files_that_one_name_may_mean_are_not_guessed(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "tags.csv").write_text("file,s,t\na,1,0\nb,0,1\n")
    report = scan_folder(tmp_path)
    assert "the table names 'a'" in report.table()
    assert "'b' is taken for 'b.png'" in report.table()


@pytest.mark.parametrize("name", ["_tumour", "tumour_", "1_tumour", " tumour-", "__tumour__"])
def test_class_folders_of_odd_names_among_those_of_systems(tmp_path, name):
    for folder in (name, "stroma"):
        for i in range(2):
            picture(tmp_path / folder / f"{folder.strip()}{i}.png")
        picture(tmp_path / folder / "@eaDir" / "p0.png" / "SYNOFILE_THUMB_S.jpg")
    (tmp_path / "__MACOSX" / name).mkdir(parents=True)
    (tmp_path / "__MACOSX" / name / "._p0.png").write_bytes(b"\0\5\x16\7" + bytes(99))
    picture(tmp_path / "$RECYCLE.BIN" / "old.png")
    folder = scan_folder(tmp_path, mpp=0.5).raise_if_fatal()
    assert sorted(folder.classes.names[:-1]) == ["stroma", "tumour"]
    assert len(folder.images) == 4


def test_a_class_folder_that_may_not_be_read_stops(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        picture(tmp_path / name / "1.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (problem,) = scan_folder(tmp_path, mpp=0.5).fatal
    assert (problem.file, problem.kind) == ("b", "unreadable folder")
    assert "Permission denied" in problem.text


def test_csv_of_words(tmp_path):
    table = 'file,tags\n0.png,"tumour, stroma"\n1.png,Stroma\n2.png,tumour\n'
    folder = scan_folder(csv_folder(tmp_path, table, files=3)).raise_if_fatal()
    assert folder.classes.names == ("tumour", "stroma", "background")
    assert tags_of(folder) == {"0.png": [[1, 1]], "1.png": [[0, 1]], "2.png": [[1, 0]]}
    table = "file,tags\n0.png,desmoplasia; TUMOR\n1.png,stroma\n2.png,tumour\n"
    report = scan_folder(csv_folder(tmp_path, table, files=3), classes=TWO)
    assert tags_of(report.raise_if_fatal())["0.png"] == [[1, 1]]


def test_csv_of_windows(tmp_path):
    table = "file,y,x,height,width,tumour,stroma,mpp\n" + "".join(
        f"{i}.png,{y},{x},20,24,{int(y > 0)},1,0.5\n"
        for i in range(2)
        for y in (0, 20)
        for x in (0, 24)
    )
    folder = scan_folder(csv_folder(tmp_path, table, files=2), classes=TWO).raise_if_fatal()
    assert folder.images[0].windows.tolist() == [
        [0, 0, 20, 24], [0, 24, 20, 24], [20, 0, 20, 24], [20, 24, 20, 24]
    ]  # fmt: skip
    assert folder.images[0].tags.tolist() == [[0, 1], [0, 1], [1, 1], [1, 1]]
    assert folder.mpp == 0.5


def test_csv_with_truth(tmp_path):
    mask(tmp_path / "truth" / "0.png", np.tile([0, 1, 2, 255], (40, 12)))
    table = "file,tumour,stroma,truth\n0.png,1,0,truth\\0.png\n1.png,0,1,\n2.png,1,1,\n"
    folder = scan_folder(csv_folder(tmp_path, table, files=3), classes=TWO).raise_if_fatal()
    assert read_truth(folder.images[0], folder)[0, :4].tolist() == [0, 1, 2, 0]
    with pytest.raises(TagError, match="no known mask"):
        read_truth(folder.images[1], folder)


def test_class_folders_match_names_and_give_unique_image_names(tmp_path):
    for folder, names in {"TUMOR": "ab", "02_Stroma": "abc", "background": "a"}.items():
        for name in names:
            picture(tmp_path / folder / f"{name}.jpg")
    report = scan_folder(tmp_path, classes=TWO)
    folder = report.raise_if_fatal()
    assert folder.tag_counts().tolist() == [2, 3]
    assert len({image.name for image in folder.images}) == 5
    assert "background" in kinds(report)
    made = scan_folder(tmp_path).raise_if_fatal()
    assert made.classes.names == ("Stroma", "TUMOR", "background")
    assert made.classes.has_background


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(suffix, mode) for suffix in (".png", ".tif") for mode in ("RGB", "RGBA", "L", "P", "1")]
    + [(suffix, mode) for suffix in (".bmp", ".webp") for mode in ("RGB", "L", "P")]
    + [(".jpg", "RGB"), (".jpg", "L"), (".webp", "RGBA")],
)
def test_kinds_of_pictures(tmp_path, suffix, mode):
    path = picture(tmp_path / f"a-[1 0]{suffix}", mode=mode)
    picture(tmp_path / "b-[0 1].png")
    folder = scan_folder(tmp_path, classes=TWO).raise_if_fatal()
    pixels = read_pixels(folder.images[0])
    assert pixels.shape == (40, 48, 3)
    with Image.open(path) as image:
        assert (pixels == np.asarray(image.convert("RGB"))).all()


def test_transparent_pixels_are_white(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, 20:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a-[1 0].png")
    picture(tmp_path / "b-[0 1].png")
    folder = scan_folder(tmp_path, classes=TWO).raise_if_fatal()
    assert read_pixels(folder.images[0])[0, [0, 39]].tolist() == [[255] * 3, [0] * 3]


# what a folder can do


@pytest.mark.parametrize(("given", "said"), [(0.25, True), (0.501, False), (None, False)])
def test_another_pixel_size_than_the_tables_is_told(given, said, tmp_path):
    for i in range(6):
        picture(tmp_path / f"a{i}.png")
    rows = "".join(f"a{i}.png,0.5,{i % 2},{1 - i % 2}\n" for i in range(6))
    (tmp_path / "tags.csv").write_text(f"file,mpp,tumour,stroma\n{rows}")
    report = scan_folder(tmp_path, mpp=given)
    assert report.raise_if_fatal().mpp == (given or 0.5)
    told = [p.text for p in report.problems if p.kind == "another mpp"]
    assert (told == ["the folder says 0.5 um/px, but 0.25 was given and is used."]) is said


def test_turned_photographs_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    pixels = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    Image.fromarray(pixels).save(path, exif=exif)
    np.testing.assert_array_equal(read_rgb(path), np.rot90(pixels, -1))


def many(tmp_path, count=40):
    rows = "".join(f"{i}.png,{i % 2},{int(i % 3 > 0)},p{i % 8}\n" for i in range(count))
    rows = rows.replace(",0,0,", ",0,1,")
    return scan_folder(
        csv_folder(tmp_path, "file,tumour,stroma,group\n" + rows, count)
    ).raise_if_fatal()


def test_split_keeps_groups_whole_and_classes_in_balance(tmp_path):
    folder = many(tmp_path)
    parts = set()
    for seed in range(6):
        training, validation = folder.split(0.25, seed)
        assert not set(training.groups) & set(validation.groups)
        assert len(training.images) + len(validation.images) == 40
        assert len(validation.images) == pytest.approx(10, abs=5)
        shares = validation.tag_counts() / folder.tag_counts()
        assert (abs(shares - 0.25) < 0.13).all()
        assert validation.groups == folder.split(0.25, seed)[1].groups
        parts.add(validation.groups)
    assert len(parts) > 1


def test_split_leaves_something_to_train_on(tmp_path):
    folder = many(tmp_path)
    two = folder.restricted(image for image in folder.images if image.group in ("p1", "p2"))
    for seed in range(4):
        training, validation = two.split(0.99, seed)
        assert (len(training.groups), len(validation.groups)) == (1, 1)


def test_a_prompt_that_two_classes_share_means_neither(tmp_path):
    classes = TissueClasses(
        (
            TissueClass("tumour epithelium", (1, 0, 0), ("tumour", "epithelium")),
            TissueClass("normal epithelium", (0, 1, 0), ("epithelium",)),
        ),
        has_background=False,
    )
    table = "file,tags\n0.png,tumour\n1.png,epithelium\n"
    (problem,) = scan_folder(csv_folder(tmp_path, table, 2), classes=classes).fatal
    assert (problem.file, problem.kind) == ("1.png", "unknown class")


def test_fatal_problems_come_first():
    note, stop = (Problem("a", "k", "t", fatal=fatal) for fatal in (False, True))
    assert FolderReport(None, (note, stop)).problems == (stop, note)


def test_split_says_when_it_can_not(tmp_path):
    folder = many(tmp_path)
    one = folder.restricted(image for image in folder.images if image.group == "p1")
    with pytest.raises(TagError, match="one slide or patient"):
        one.split(0.2, 0)
    with pytest.raises(TagError, match="validation_fraction"):
        folder.split(1.0, 0)


def test_digest_follows_content_not_place(tmp_path):
    folder = many(tmp_path / "a", 6)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = scan_folder(tmp_path / "b").raise_if_fatal()
    assert copy.digest() == folder.digest()
    picture(tmp_path / "b" / "3.png")
    assert scan_folder(tmp_path / "b").raise_if_fatal().digest() != folder.digest()
    fewer = folder.restricted(folder.images[:-1])
    assert fewer.digest() != folder.digest()
    first, *rest = folder.images
    for change in ({"tags": 1 - first.tags}, {"windows": [[0, 0, 40, 47]]}, {"group": "x"}):
        assert folder.restricted([replace(first, **change), *rest]).digest() != folder.digest()


def test_tagged_images_check_themselves(tmp_path):
    good = {
        "path": tmp_path / "a.png",
        "size": (10, 20),
        "windows": np.array([[0, 0, 10, 10]]),
        "tags": np.array([[1, 0]]),
        "group": "g",
    }
    image = TaggedImage(**good)
    with pytest.raises(ValueError, match="read-only"):
        image.tags[0, 0] = 0
    for name, value in {
        "windows": np.array([[0, 11, 10, 10]]),
        "tags": np.array([[2, 0]]),
        "size": (9, 20),
    }.items():
        with pytest.raises(TagError):
            TaggedImage(**{**good, name: value})
    with pytest.raises(TagError, match="two images"):
        TaggedFolder(tmp_path, "csv", TWO, (image, image))
    with pytest.raises(TagError, match="mask id 3"):
        TaggedFolder(tmp_path, "csv", TWO, (image,), truth_ids={0: 3})


def test_an_image_that_changed_after_the_check_is_refused(tmp_path):
    folder = many(tmp_path, 6)
    picture(folder.images[0].path, (50, 50))
    with pytest.raises(TagError, match="was 40 x 48 px"):
        read_pixels(folder.images[0])


def test_the_same_picture_in_two_folders(tmp_path):
    csv_folder(tmp_path / "a", "file,a,b\n" + good_rows())
    csv_folder(tmp_path / "b", "file,a,b\n" + good_rows())
    shutil.copy(tmp_path / "a" / "2.png", tmp_path / "b" / "5.png")
    first, second = scan_folder(tmp_path / "a"), scan_folder(tmp_path / "b")
    (problem,) = shared_pictures(first.pixel_hashes, second.pixel_hashes)
    assert problem.file == "5"
    assert "'2'" in problem.text


def test_progress_is_told(tmp_path):
    told = []
    scan_folder(
        csv_folder(tmp_path, "file,a,b\n" + good_rows()), on_progress=lambda *now: told.append(now)
    )
    assert told == [(i, 6) for i in range(1, 7)]


def test_a_further_folder_is_trained_on_and_may_lack_classes(tmp_path: Path) -> None:
    from plimseg_training.config.recipe import Recipe
    from plimseg_training.data.datasets import TrainingData

    random = np.random.default_rng(0)
    for folder, name in (
        ("own", "a-[1 0]"),
        ("own", "b-[0 1]"),
        ("other/fat", "a"),
        ("own", "c-[1 1]"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    stage = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-3}
    classes = {"classes": [{"name": "gland"}, {"name": "fat"}], "has_background": False}
    recipe = Recipe.from_dict({
        "name": "x", "stage1": stage, "stage2": stage,
        "data": {
            "train": str(tmp_path / "own"), "more": [str(tmp_path / "other")], "mpp": 0.5,
            "classes": classes, "validation_fraction": 0.34,
        },
    })  # fmt: skip
    data = TrainingData.of(recipe)
    assert data.validation is not None
    assert "other-a" in [image.name for image in data.train.images]
    assert "other-a" not in [image.name for image in data.validation.images]
    assert len(data.train.images) + len(data.validation.images) == 4
    assert [i.tags.tolist() for i in data.train.images if i.name == "other-a"] == [[[0, 1]]]


def test_typed_names_that_the_bundled_model_knows_keep_its_colours() -> None:
    classes = made_classes(["Tumor epithelium", "my own tissue", "STROMA", "stroma 2"])
    known = {c.name: c.color for c in COLORECTAL}
    assert classes[0].color == known["tumour epithelium"]
    assert classes[2].color == known["stroma"]
    assert len(set(classes.colors)) == len(classes)
