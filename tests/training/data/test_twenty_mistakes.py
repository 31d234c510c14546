"""The usual mistakes in a folder of tags: file, mistake and remedy are told for each."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import TagError
from napari_plimseg.tissue import BCSS_WSSS, LUAD_HISTOSEG, TissueClass, TissueClasses
from plimseg_training.data.scan import scan_folder
from tests.support.tagged_folders import csv_folder, good_rows, mask, named_folder, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TWO = TissueClasses(
    (TissueClass("tumour", (255, 0, 0)), TissueClass("stroma", (0, 255, 0))), has_background=False
)
THREE = TWO.with_class(TissueClass("necrosis", (0, 0, 255)))
HEADER = "file,tumour,stroma\n"


class Mistake(NamedTuple):
    """A folder with one mistake, and what must be said about it."""

    make: Callable[[Path], Path | None]
    file: str
    says: str
    remedy: str
    fatal: bool = True
    options: dict[str, object] = {"classes": TWO}  # noqa: RUF012


def _names(*tags: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        named_folder(root, ["[1 0]", "[0 1]", "[1 1]", "[1 0]", *tags])

    return make


def _table(rows: str, header: str = HEADER) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        csv_folder(root, header + rows)

    return make


def _good(root: Path) -> None:
    csv_folder(root, HEADER + good_rows())


def _with(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        _good(root)
        change(root)

    return make


def _truncated(root: Path) -> None:
    data = (root / "3.png").read_bytes()
    (root / "3.png").write_bytes(data[: len(data) // 2])


def _many_unreadable(root: Path) -> None:
    for i in range(4):
        (root / f"{i}.png").write_bytes(b"not a picture")


def _sixteen_bits(root: Path) -> None:
    Image.fromarray(np.full((40, 48), 4000, np.uint16)).save(root / "3.png")


def _empty(root: Path) -> None:
    root.mkdir()


def _texts_only(root: Path) -> None:
    root.mkdir()
    (root / "notes.txt").write_text("nothing")


def _missing(root: Path) -> Path:
    return root.parent / "no_such"


def _file(root: Path) -> Path:
    return picture(root / "picture.png")


def _untagged(root: Path) -> None:
    for i in range(3):
        picture(root / f"{i}.png")


def _other_table(root: Path) -> None:
    _good(root)
    (root / "tags.csv").rename(root / "labels.csv")


def _two_parts(root: Path) -> None:
    for part in ("train", "val"):
        csv_folder(root / part, HEADER + good_rows())
    shutil.copy(root / "train" / "2.png", root / "val" / "5.png")


def _class_folders(*names: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for name in names:
            picture(root / name / f"{name}.png")

    return make


def _one_image_two_folders(root: Path) -> None:
    _class_folders("tumour", "stroma")(root)
    shutil.copy(root / "tumour" / "tumour.png", root / "stroma" / "copy.png")


def _names_that_differ(root: Path) -> None:
    _names()(root)
    picture(root / "1000-0-0-[0 1].png")


def _image_beside_folders(root: Path) -> None:
    _class_folders("tumour", "stroma")(root)
    picture(root / "x.png")


def _validation(values: np.ndarray) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        named_folder(root / "train", ["[1 0 0 1]", "[0 1 0 0]"])
        picture(root / "val" / "img" / "1-2-3.png")
        mask(root / "val" / "mask" / "1-2-3.png", values)

    return make


LUAD_VALIDATION = {"split": "validation", "layout": "luad_histoseg"}

MISTAKES = {
    "folder missing": Mistake(_missing, "no_such", "no such folder", "Correct the path"),
    "path is a file": Mistake(_file, "picture.png", "a file, not a folder", "Give the folder"),
    "folder empty": Mistake(_empty, "data", "is empty", "tags.csv"),
    "no images": Mistake(_texts_only, "data", "no images", "Add PNG, JPEG"),
    "nothing tells the tags": Mistake(_untagged, "data", "the images have no tags", "tags.csv"),
    "table of another name": Mistake(
        _other_table, "labels.csv", "only read when it is called tags.csv", "Rename it"
    ),
    "unknown layout": Mistake(
        _good, "data", "layout 'csvs' is not known", "Did you mean 'csv'",
        options={"layout": "csvs"},
    ),
    "no validation part": Mistake(
        _good, "data", "no validation part", "Make a subfolder", options={"split": "validation"}
    ),
    "classes not known": Mistake(
        _names(), "data", "the classes are unknown", "Set data.classes", options={}
    ),
    "classes in another order": Mistake(
        lambda root: named_folder(root, ["[1 0 0 1]", "[0 1 1 0]"]), "data",
        "'necrosis' at place 4", "Its order is", options={"classes": BCSS_WSSS},
    ),
    "wrong tag length": Mistake(
        _names("[1 0 1]"), "1000-40-80-[1 0 1].png", "3 tags where there are 2", "Rename the file"
    ),
    "tag that is not 0 or 1": Mistake(
        _names("[2 0]"), "1000-40-80-[2 0].png", "neither 0 nor 1", "Write 1"
    ),
    "tags that are no list": Mistake(
        _names("[1;0]"), "1000-40-80-[1;0].png", "not a list of zeros and ones", "[1 0 1 0]"
    ),
    "all-zero tags in a name": Mistake(
        _names("[0 0]"), "1000-40-80-[0 0].png", "all its tags are 0", "Tag at least one"
    ),
    "one name without tags": Mistake(
        _names("copy"), "1000-40-80-copy.png", "no tags at the end", "Rename it"
    ),
    "one image, two names, other tags": Mistake(
        _names_that_differ,
        "1000-0-0-[1 0].png", "gives the same image other tags", "Delete the wrong one",
    ),
    "all-zero tags in a table": Mistake(
        _table("0.png,0,0\n" + good_rows()[12:]), "0.png", "no tag in line 2",
        "Tag at least one class",
    ),
    "table with other values": Mistake(
        _table("0.png,yes,0\n"), "0.png", "'yes' in column 'tumour'", "Write 1"
    ),
    "table without file column": Mistake(
        _table("a,1,0\n", "tumour,stroma,x\n"), "tags.csv", "none is 'file'", "Begin with"
    ),
    "table without header": Mistake(
        lambda root: csv_folder(root, '\n"",\n'), "tags.csv", "has no header", "Begin with"
    ),
    "table that is a spreadsheet": Mistake(
        lambda root: csv_folder(root, "PK\0\0"), "tags.csv", "not text", "Save it as CSV"
    ),
    "table without classes": Mistake(
        _table("0.png\n", "file\n"), "tags.csv", "no classes", "Add a column"
    ),
    "doubled column": Mistake(
        _table("0.png,1,0\n", "file,stroma,stroma\n"), "tags.csv", "occurs twice",
        "Rename or delete",
    ),
    "unknown class in a table": Mistake(
        _table("0.png,1,0\n", "file,tumour,stromma\n"), "tags.csv",
        "'stromma' is not a class",
        "Did you mean 'stroma'",
    ),
    "unknown class in words": Mistake(
        _table("0.png,tumuor\n1.png,stroma\n", "file,tags\n"), "0.png", "'tumuor'",
        "Did you mean 'tumour'",
    ),
    "two spellings in a table": Mistake(
        _table("0.png,1,0\n", "file,Tumor,tumour\n"), "tags.csv", "two spellings",
        "Use one spelling", options={},
    ),
    "two spellings in folders": Mistake(
        _class_folders("Tumour", "tumor", "stroma"), "data", "two spellings", "Use one spelling"
    ),
    "short row": Mistake(
        _table("0.png,1\n"), "tags.csv", "line 2 has 2 cells where", "Fill the row"
    ),
    "conflicting rows": Mistake(
        _table("0.png,1,1\n" + good_rows()), "0.png", "lines 2 and 3", "Delete the wrong one"
    ),
    "part of a window's columns": Mistake(
        _table("0.png,1,2,3,1,0\n", "file,y,x,height,tumour,stroma\n"), "tags.csv",
        "'width' is missing", "Add it",
    ),
    "window outside": Mistake(
        _table("0.png,30,0,20,20,1,0\n", "file,y,x,height,width,tumour,stroma\n"), "0.png",
        "outside the image", "Correct the row",
    ),
    "window of no numbers": Mistake(
        _table("0.png,0,0,9e9,20,1,0\n", "file,y,x,height,width,tumour,stroma\n"), "0.png",
        "not four whole", "Write y, x",
    ),
    "huge window": Mistake(
        _table("0.png,0,0,2147483647,20,1,0\n", "file,y,x,height,width,tumour,stroma\n"), "0.png",
        "outside the image", "Correct the row",
    ),
    "quote that is never closed": Mistake(
        _table('"0.png,1,0\n' + good_rows()), "tags.csv", "line 8 has 1 cells", "Fill the row"
    ),
    "row without file": Mistake(
        _table(good_rows() + "scan5.png,1,0\n"), "scan5.png", "no such file", "correct the row",
        fatal=False,
    ),
    "file without row": Mistake(
        _table(good_rows(5)), "5.png", "no row in the table", "Add a row", fatal=False
    ),
    "unreadable file": Mistake(
        _with(lambda root: (root / "3.png").write_bytes(b"")), "3.png", "is empty",
        "Copy it again", fatal=False,
    ),
    "truncated file": Mistake(
        _with(_truncated), "3.png", "can't be decoded", "Copy it again", fatal=False
    ),
    "too many unreadable files": Mistake(
        _with(_many_unreadable), "data", "4 of 6 files can't be used, '0.png'", "is not a PNG"
    ),
    "16 bits": Mistake(_with(_sixteen_bits), "3.png", "16 bits", "Save it as an 8-bit RGB PNG"),
    "same picture twice": Mistake(
        _with(lambda root: shutil.copy(root / "2.png", root / "4.png")), "4.png",
        "same picture as '2.png'", "Delete one", fatal=False,
    ),
    "same picture with other tags": Mistake(
        _with(lambda root: shutil.copy(root / "2.png", root / "3.png")), "3.png",
        "same picture as '2.png' with other tags", "right tags",
    ),
    "one image in two class folders": Mistake(
        _one_image_two_folders, "tumour.png", "same picture as 'copy.png' with other tags",
        "all its tags at once",
    ),
    "same picture in training and validation": Mistake(
        _two_parts, "val/5.png", "same picture as '2' of the training part", "Delete one",
        fatal=False,
    ),
    "odd size": Mistake(
        _with(lambda root: picture(root / "3.png", (200, 200))), "3.png", "200 x 200 px",
        "same magnification", fatal=False,
    ),
    "too small": Mistake(
        _with(lambda root: picture(root / "3.png", (20, 48))), "3.png", "only 48 x 20 px",
        "cut larger patches", fatal=False,
    ),
    "a class is never tagged": Mistake(
        _table(
            "".join(f"{i}.png,{i % 2},{1 - i % 2},0\n" for i in range(6)),
            "file,tumour,stroma,necrosis\n",
        ),
        "data", "no image is tagged 'necrosis'", "Add images of it", fatal=False,
        options={"classes": THREE},
    ),
    "only one class": Mistake(
        _table("0.png,1,0\n1.png,1,0\n"), "data", "every tag is 'tumour'", "show other classes"
    ),
    "unknown class folder": Mistake(
        _class_folders("tumour", "stroma", "old"), "old", "'old' is not a class", "Known classes"
    ),
    "image beside the class folders": Mistake(
        _image_beside_folders,
        "x.png", "beside the class folders", "Move it", fatal=False,
    ),
    "mask of another size": Mistake(
        _validation(np.zeros((30, 48))), "mask/1-2-3.png", "48 x 30 px and the image 48 x 40",
        "nearest-neighbor", options=LUAD_VALIDATION,
    ),
    "mask with unknown values": Mistake(
        _validation(np.full((40, 48), 9)), "mask/1-2-3.png", "the value 9", "Correct the mask",
        options=LUAD_VALIDATION,
    ),
    "pixel size not known": Mistake(
        _good, "data", "pixel size is unknown", "Set data.mpp", fatal=False
    ),
}  # fmt: skip


def test_there_are_twenty_and_more():
    assert len(MISTAKES) > 20


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told(name, tmp_path):
    mistake = MISTAKES[name]
    made = mistake.make(tmp_path / "data")
    report = scan_folder(made or tmp_path / "data", **mistake.options)
    told = [p for p in report.problems if p.file == mistake.file and mistake.says in p.text]
    assert told, report.table()
    assert mistake.remedy in told[0].text
    assert told[0].fatal == mistake.fatal
    assert mistake.file in report.table()
    assert str(tmp_path) not in report.table()
    if mistake.fatal:
        assert report.folder is None
        with pytest.raises(TagError) as caught:
            report.raise_if_fatal()
        assert str(caught.value).count("'") >= 2
        if len(report.fatal) == 1:
            for part in (mistake.file.rsplit("/", 1)[-1], mistake.says, mistake.remedy):
                assert part in str(caught.value)
    else:
        assert report.fatal == ()
        assert report.raise_if_fatal().images


def test_a_good_folder_has_no_problem(tmp_path):
    rows = "".join(f"{i}.png,{i % 2},{1 - i % 2},slide {i % 3}\n" for i in range(6))
    report = scan_folder(csv_folder(tmp_path, "file,tumour,stroma,group\n" + rows), mpp=1.0)
    assert report.problems == ()
    assert report.table() == "No problems."


def test_skipped_files_leave_the_others(tmp_path):
    _good(tmp_path / "data")
    _truncated(tmp_path / "data")
    folder = scan_folder(tmp_path / "data", classes=TWO).raise_if_fatal()
    assert [image.name for image in folder.images] == ["0", "1", "2", "4", "5"]


def test_names_that_no_disk_can_hold(tmp_path):
    _table(good_rows() + "a" * 300 + ".png,1,0\n/,0,1\n")(tmp_path / "data")
    report = scan_folder(tmp_path / "data", classes=TWO)
    assert [p.kind for p in report.problems].count("missing file") == 2
    assert len(report.raise_if_fatal().images) == 6


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_args, **_kinds):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("plimseg_training.data.scan.list_folder", refuse)
    (problem,) = scan_folder(tmp_path / "data").problems
    assert (problem.file, problem.fatal) == ("data", True)
    assert "Permission denied" in problem.text
    assert "Check its permissions" in problem.text


def test_one_in_a_hundred_may_be_unreadable(tmp_path):
    rows = good_rows(500)
    csv_folder(tmp_path, HEADER + rows, 500)
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(b"")
    assert len(scan_folder(tmp_path, classes=TWO).raise_if_fatal().images) == 495
    (tmp_path / "5.png").write_bytes(b"")
    assert scan_folder(tmp_path, classes=TWO).folder is None


def test_a_long_table_is_cut_short(tmp_path):
    named_folder(tmp_path, ["[1 0 1]"] * 30)
    report = scan_folder(tmp_path, classes=TWO, mpp=1.0)
    lines = report.table().splitlines()
    assert len(lines) == 22
    assert lines[-1].endswith("10 more files: wrong tag length")
    with pytest.raises(TagError, match="30 problems"):
        report.raise_if_fatal()


def test_validation_masks_of_all_values_are_known(tmp_path):
    _validation(np.tile([0, 1, 2, 3, 4, 255], (40, 8)))(tmp_path)
    report = scan_folder(tmp_path, classes=LUAD_HISTOSEG, **LUAD_VALIDATION)
    assert report.problems == ()
