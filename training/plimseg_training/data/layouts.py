"""Layouts of tagged folders: detecting a folder's layout, and listing its files and tags."""

from __future__ import annotations

import csv
import difflib
import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_plimseg.errors import TagError
from napari_plimseg.tissue import GLAS, PRESETS, WSSS4LUAD, TissueClasses
from plimseg_training.data.entries import (
    ClassNames,
    FolderEntry,
    FolderIndex,
    LayoutError,
    Problem,
    group_in_name,
    has_tags,
    is_background_name,
    made_classes,
    mask_ids,
    name_without_tags,
    parse_tags,
    spelling_problems,
)
from plimseg_training.data.images import (
    entries_of,
    image_files,
    images_below,
    is_image_file,
    palette_of,
)
from plimseg_training.data.tags_csv import read_csv, table_text
from plimseg_training.data.window_tags import WindowRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


GLAS_RULE = WindowRule(side=112, stride=56, minimum=0.05, strictly=True)
"""The rule of OEEM for GlaS: a class is tagged if it covers more than 5 % of a window."""
WSSS4LUAD_RULE = WindowRule(side=224, stride=56, minimum=0.03)
"""Yields 413 windows of the 31 images: 288 with tumour and stroma, 11 with only tumour."""
GLAS_MPP = 0.62
WSSS4LUAD_MPP = 1.0

_ANNOTATION = "_anno"
_GLAS_NAME = re.compile(r"(?:train|test[AB]?)_[0-9]+")
_WSSS4LUAD_PALETTE = [0, 64, 128, 64, 128, 0, 243, 152, 0, 255, 255, 255]


def read_glas(root: Path, classes: TissueClasses | None, split: str) -> FolderIndex:
    """Read GlaS: `img/` with `masks/`, or the official `train_1.bmp` with `train_1_anno.bmp`.

    Parameters
    ----------
    root : Path
        Contains `Grade.csv` with each image's patient; a test part may lack it.
    classes : TissueClasses, optional
        Gland first, other tissue second.
    split : {"train", "validation", "test"}
        "train" is `train_*`, "test" is `testA_*` and `testB_*`; there is no validation part.

    Raises
    ------
    LayoutError
        When `Grade.csv` can't be read, or the part does not exist.
    """
    classes = classes or GLAS
    if len(classes.tissue_ids) != 2:
        raise LayoutError(
            root.name,
            "wrong classes",
            f"GlaS has two classes and data.classes has {len(classes.tissue_ids)}. "
            "Set data.classes: glas.",
        )
    if split == "validation":
        raise LayoutError(
            root.name,
            "missing part",
            "GlaS has no validation part. Omit data.validation: patients of the training "
            "part are held out.",
        )
    table = root / "Grade.csv"
    # for scoring, nobody needs to know the patients
    patients = _patients(table) if split == "train" or table.is_file() else None
    files, in_folders = _glas_files(root), (root / "img").is_dir()
    masks = {p.stem: p for p in (image_files(root / "masks") if in_folders else image_files(root))}
    entries, problems = [], []
    for path in sorted(files, key=_number):
        if not path.stem.startswith("train" if split == "train" else "test"):
            continue
        mask = masks.get(path.stem if in_folders else path.stem + _ANNOTATION)
        patient = path.stem if patients is None else patients.get(path.stem)
        if mask is None:
            text = "its mask is missing, and so are its tags. Copy the mask from the data set."
            problems.append(Problem(path.name, "missing mask", text, fatal=True))
        elif patient is None:
            text = "Grade.csv has no row for it, so its patient is unknown. Add the row."
            problems.append(Problem(path.name, "unknown patient", text, fatal=True))
        else:
            group = f"patient {patient}" if patients else patient
            entries.append(FolderEntry(path, group=group, truth=mask))
    if not entries and not problems:
        other = "test" if split == "train" else "train"
        raise LayoutError(
            root.name,
            "missing part",
            f"it has no images '{split}*' of GlaS. For its {other} part, add --part {other}.",
        )
    return FolderIndex(
        root=root,
        layout="glas",
        classes=classes,
        entries=tuple(entries),
        mpp=GLAS_MPP,
        truth_ids={0: 2} | dict.fromkeys(range(1, 256), 1),  # one value per gland
        rule=GLAS_RULE,
        groups_known=patients is not None,
        problems=tuple(problems),
    )


def _glas_files(root: Path) -> list[Path]:
    """Return the images of GlaS in a folder, without masks."""
    pictures = root / "img"
    files = image_files(pictures if pictures.is_dir() else root)
    return [p for p in files if not p.stem.endswith(_ANNOTATION)]


def _is_glas(root: Path) -> bool:
    if (root / "Grade.csv").is_file():
        return True
    files = _glas_files(root)
    if not files or not all(_GLAS_NAME.fullmatch(path.stem) for path in files):
        return False
    beside = any(path.stem.endswith(_ANNOTATION) for path in image_files(root))
    return beside or (root / "masks").is_dir()


def _number(path: Path) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)([0-9]*)", path.stem)
    return (found[1], int(found[2] or 0)) if found else (path.stem, 0)


def _patients(path: Path) -> dict[str, str]:
    try:
        text = table_text(path)
    except TagError as error:
        raise LayoutError(
            path.name,
            "unreadable table",
            "it can't be read. It is part of GlaS and names each image's patient. Copy it again.",
        ) from error
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    header = [cell.casefold().replace("_", " ") for cell in rows[0]] if rows else []
    for column in ("name", "patient id"):
        if column not in header:
            raise LayoutError(
                path.name,
                "missing column",
                f"it has no column '{column}'. Copy the table of the data set again.",
            )
    name, patient = header.index("name"), header.index("patient id")
    return {row[name]: row[patient] for row in rows[1:] if len(row) > max(name, patient)}


def read_wsss4luad(root: Path, classes: TissueClasses | None) -> FolderIndex:
    """Read WSSS4LUAD's large images: `img/` with `mask/`; each image is its own group.

    Parameters
    ----------
    root : Path
        Contains `img` and `mask` with values 0 tumour, 1 stroma, 2 normal and 3 white, which is
        background, or not scored if the classes have none.
    classes : TissueClasses, optional
        Tumour epithelium, stroma, normal.
    """
    classes = classes or WSSS4LUAD
    if len(classes.tissue_ids) != 3:
        raise LayoutError(
            root.name,
            "wrong classes",
            f"WSSS4LUAD has three classes and data.classes has {len(classes.tissue_ids)}. "
            "Set data.classes: wsss4luad.",
        )
    truth_ids = {0: 1, 1: 2, 2: 3, 3: classes.background_id or 0}
    masks = {path.stem: path for path in image_files(root / "mask")}
    entries, problems = [], []
    for path in image_files(root / "img"):
        mask = masks.get(path.stem)
        if mask is None:
            text = "its mask is missing, and so are its tags. Copy the mask from the data set."
            problems.append(Problem(path.name, "missing mask", text, fatal=True))
        else:
            entries.append(FolderEntry(path, group=path.stem, truth=mask))
    return FolderIndex(
        root=root,
        layout="wsss4luad",
        classes=classes,
        entries=tuple(entries),
        mpp=WSSS4LUAD_MPP,
        truth_ids=truth_ids,
        rule=WSSS4LUAD_RULE,
        problems=tuple(problems),
    )


LAYOUTS = ("names", "csv", "folders", "glas", "wsss4luad", "luad_histoseg", "bcss_wsss")
SPLITS = ("train", "validation", "test")
_PARTS = {
    "train": ("train", "training", "1.training"),
    "validation": ("val", "valid", "validation", "2.validation"),
    "test": ("test", "testing", "3.testing"),
}
_BY_NAME = ("names", "luad_histoseg", "bcss_wsss", "wsss4luad")
_MPP = {"luad_histoseg": 1.0, "bcss_wsss": 0.25, "wsss4luad": 1.0}
_ANY_PIXEL = WindowRule(side=0, stride=0, minimum=0.0, strictly=True)
_HOW = (
    "Write tags into the names ('a-[1 0].png'), or add a tags.csv with a column 'file' and one "
    "column per class, or make one subfolder per class."
)


def part_folder(root: Path, split: str) -> Path | None:
    """Return the subfolder of a part ("train" or "training", "val" or "valid"), or None."""
    wanted = _PARTS[split]
    found = [p for p in root.iterdir() if p.is_dir() and p.name.casefold() in wanted]
    return min(found, key=lambda p: wanted.index(p.name.casefold())) if found else None


def list_folder(
    root: Path, *, classes: TissueClasses | None, layout: str, split: str
) -> FolderIndex:
    """List one part of a tagged folder without opening its images.

    Parameters
    ----------
    root : Path
        A folder, or a CSV file of tags.
    classes : TissueClasses, optional
        In tag order.
    layout : str
        "auto" or one of `LAYOUTS`.
    split : {"train", "validation", "test"}
        Which part.

    Returns
    -------
    FolderIndex

    Raises
    ------
    LayoutError
        When the folder can't be read in any layout, or has no such part.
    TagError
        When a file name has invalid tags.
    """
    _check_words(layout, split, root)
    if not root.exists():
        raise LayoutError(
            root.name,
            "missing folder",
            "there is no such folder. Correct the path; it may be relative to the recipe's folder.",
        )
    if root.is_file():
        if root.suffix.lower() != ".csv":
            raise LayoutError(
                root.name,
                "not a folder",
                "this is a file, not a folder. Give the folder that contains it, or a CSV of tags.",
            )
        return read_csv(root, classes)
    layout = detect_layout(root, split) if layout == "auto" else layout
    part = part_folder(root, split)
    if layout == "glas":
        return read_glas(root, classes, split)
    has_masks = (root / "img").is_dir() and (root / "mask").is_dir()
    if layout == "wsss4luad" and split == "train" and part is None and has_masks:
        return read_wsss4luad(root, classes)
    if part is None and split != "train" and not (has_masks and layout in _BY_NAME):
        raise LayoutError(
            root.name,
            "missing part",
            f"there is no {split} part. Make a subfolder '{_PARTS[split][0]}', or omit it: then "
            "some of the training images are held out.",
        )
    folder = part or root
    if layout == "csv":
        beside = _tags_csv(root) if split == "train" else None
        return read_csv(_tags_csv(folder) or beside or folder / "tags.csv", classes)
    if layout == "folders":
        return _read_folders(folder, classes)
    return _read_names(folder, classes, layout)


def _check_words(layout: str, split: str, root: Path) -> None:
    for word, known, what in ((layout, ("auto", *LAYOUTS), "layout"), (split, SPLITS, "part")):
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            meant = f"Did you mean '{near[0]}'? " if near else ""
            text = f"the {what} '{word}' is not known. {meant}Known: {', '.join(known)}."
            raise LayoutError(root.name, f"unknown {what}", text)


def has_part(root: Path, split: str) -> bool:
    """Return whether a folder has a subfolder, or GlaS's images, for a part."""
    if not root.is_dir():
        return False
    if part_folder(root, split) is not None:
        return True
    return _is_glas(root) and any(p.stem.startswith(split) for p in _glas_files(root))


def detect_layout(root: Path, split: str = "train") -> str:
    """Return the layout of a folder: one of `LAYOUTS`.

    It is detected from the training part, or from `split` if there is none.

    Raises
    ------
    LayoutError
        When it is empty, or has no images, or no tags.
    """
    training = part_folder(root, "train") or part_folder(root, split) or root
    if _tags_csv(training) or _tags_csv(root):
        return "csv"
    if _is_glas(root):
        return "glas"
    inside = entries_of(training)
    if not inside:
        raise LayoutError(training.name, "empty folder", f"the folder is empty. {_HOW}")
    if any(is_image_file(p) and has_tags(p.name) for p in inside):
        return _data_set([p.name for p in inside if is_image_file(p)])
    if (training / "img").is_dir() and (training / "mask").is_dir():
        if (training / "background-mask").is_dir():
            return "wsss4luad"
        return _data_set_of_masks(training)
    if any(p.is_dir() and images_below(p) for p in inside):
        return "folders"
    tables = [p.name for p in inside if p.suffix.lower() == ".csv"]
    if tables:
        raise LayoutError(
            tables[0],
            "unknown layout",
            "a table beside the images is only read when it is called tags.csv. "
            "Rename it, or set data.train to the CSV file.",
        )
    if any(is_image_file(p) for p in inside):
        raise LayoutError(training.name, "unknown layout", f"the images have no tags. {_HOW}")
    raise LayoutError(
        training.name,
        "no images",
        "it contains no images. Add PNG, JPEG, BMP, TIFF or WebP files; 'plimseg cut' makes "
        "them from slides.",
    )


def _tags_csv(folder: Path) -> Path | None:
    return next((p for p in sorted(folder.iterdir()) if p.name.casefold() == "tags.csv"), None)


def _data_set(names: Sequence[str]) -> str:
    """Recognize a public data set by its file names, because it determines the class order."""
    tagged = [name for name in names if has_tags(name)]
    if any(re.search(r"MPP-[0-9.]+\+[0-9]+\[[01]{4}\]", name) for name in tagged):
        return "bcss_wsss"
    placed = [m[1] for m in (re.match(r"[0-9]+-[0-9]+-[0-9]+-\[(.*)\]", n) for n in tagged) if m]
    if placed and all(re.fullmatch(r"[01]( [01]){3}", tags) for tags in placed):
        return "luad_histoseg"
    if placed and all(re.fullmatch(r"[01](, ?[01]){2}", tags) for tags in placed):
        return "wsss4luad"
    return "names"


def _data_set_of_masks(folder: Path) -> str:
    """Recognize a public data set by the palette of its masks."""
    for path in image_files(folder / "mask")[:1]:
        try:
            palette = palette_of(path)
        except TagError:  # the scan of the folder reports it
            continue
        if palette[: len(_WSSS4LUAD_PALETTE)] == _WSSS4LUAD_PALETTE:
            return "wsss4luad"
        for name in ("luad_histoseg", "bcss_wsss"):
            colors = [channel for color in PRESETS[name].colors for channel in color]
            if palette[: len(colors)] == colors:
                return name
    return "names"


def _read_names(folder: Path, classes: TissueClasses | None, layout: str) -> FolderIndex:
    if classes is None:
        classes = PRESETS.get(layout)
    has_masks = (folder / "img").is_dir() and (folder / "mask").is_dir()
    if classes is None:
        what, order = ("images", "masks' values") if has_masks else ("file names", "tags")
        raise LayoutError(
            folder.name,
            "unknown classes",
            f"the {what} have {'masks' if has_masks else 'tags'}, but the classes are unknown. Set "
            f"data.classes to the class names in the order of the {order}.",
        )
    _check_order(classes, layout, folder)
    count = len(classes.tissue_ids)
    truth_ids = mask_ids(classes)
    if layout != "names":  # published data sets begin with 0
        truth_ids = {i: i + 1 for i in range(count)}
        truth_ids |= {count: classes.background_id or 0, 255: 0}
    problems: list[Problem] = []
    if has_masks:
        entries = _with_masks(folder, problems)
    else:
        inner = folder / "img"
        entries = _with_names(inner if inner.is_dir() else folder, count, classes, problems)
    entries, known = _grouped(entries, keep_single=layout != "names")
    return FolderIndex(
        root=folder,
        layout=layout,
        classes=classes,
        entries=tuple(entries),
        mpp=_mpp_in_names(entries) or _MPP.get(layout),
        truth_ids=truth_ids,
        rule=_ANY_PIXEL if has_masks else None,
        groups_known=known,
        problems=tuple(problems),
    )


def _check_order(classes: TissueClasses, layout: str, folder: Path) -> None:
    """Refuse classes in another order than the tags of a known data set."""
    if layout not in PRESETS:
        return
    finder = ClassNames(PRESETS[layout])
    for i in classes.tissue_ids:
        place = finder.index(classes[i - 1].name)
        if place is not None and place != i - 1:
            order = ", ".join(PRESETS[layout][k - 1].name for k in PRESETS[layout].tissue_ids)
            text = (
                f"data.classes has '{classes[i - 1].name}' at place {i}, but this data set "
                f"({layout}) has it at place {place + 1}. Its order is: {order}."
            )
            raise LayoutError(folder.name, "class order", text)


def _with_names(
    folder: Path, count: int, classes: TissueClasses, problems: list[Problem]
) -> list[FolderEntry]:
    entries = []
    seen: dict[str, Path] = {}
    order = ", ".join(classes[i - 1].name for i in classes.tissue_ids)
    for path in image_files(folder):
        if not has_tags(path.name):
            text = (
                "there are no tags at the end of its name. Rename it as in 'name-[1 0].png', "
                "or remove it from the folder."
            )
            problems.append(Problem(path.name, "no tags", text, fatal=True))
            continue
        try:
            tags = parse_tags(path.name, count)
        except TagError as error:
            kind = "wrong tag length" if "classes" in error.problem else "wrong tags"
            text = f"{error.problem}. Classes in order: {order}. {error.remedy}"
            problems.append(Problem(path.name, kind, text, fatal=True))
            continue
        name = name_without_tags(path.stem)
        before = seen.setdefault(name, path)
        if before is not path and parse_tags(before.name) != tags:
            text = f"'{before.name}' gives the same image other tags. Delete the wrong one."
            problems.append(Problem(path.name, "conflicting tags", text, fatal=True))
        entries.append(FolderEntry(path, tags=(tags,)))
    return entries


def _with_masks(folder: Path, problems: list[Problem]) -> list[FolderEntry]:
    masks = {re.sub(r"(\.mask)?(\.ome)?$", "", p.stem): p for p in image_files(folder / "mask")}
    entries = []
    for path in image_files(folder / "img"):
        mask = masks.get(path.stem.removesuffix(".ome"))
        if mask is None:
            text = "there is no mask of this name in 'mask', so the image is skipped. Add the mask."
            problems.append(Problem(path.name, "missing mask", text, fatal=False))
            continue
        entries.append(FolderEntry(path, truth=mask))
    return entries


def _mpp_in_names(entries: Iterable[FolderEntry]) -> float | None:
    found = {
        float(match[1])
        for match in (re.search(r"MPP-([0-9]+\.[0-9]+)", entry.path.name) for entry in entries)
        if match
    }
    return found.pop() if len(found) == 1 else None


def _grouped(
    entries: Sequence[FolderEntry], *, keep_single: bool
) -> tuple[list[FolderEntry], bool]:
    """Fill in every entry's slide or patient; each file is its own group if names show none."""
    names = [name_without_tags(entry.path.stem) for entry in entries]
    found = [entry.group or group_in_name(n) for entry, n in zip(entries, names, strict=True)]
    distinct = {group or name for group, name in zip(found, names, strict=True)}
    if len(distinct) < 2 and not keep_single:
        found = [None] * len(entries)
    grouped = [
        replace(entry, group=group or name)
        for entry, group, name in zip(entries, found, names, strict=True)
    ]
    return grouped, bool(entries) and None not in found


def _read_folders(folder: Path, classes: TissueClasses | None) -> FolderIndex:
    problems: list[Problem] = []
    inside = entries_of(folder)
    named = [p for p in inside if p.is_dir()]
    for path in inside:
        if is_image_file(path):
            text = (
                "it is beside the class folders, so its class is unknown and it is skipped. "
                "Move it into the folder of its class."
            )
            problems.append(Problem(path.name, "no tags", text, fatal=False))
    tissue = []
    for path in named:
        if is_background_name(path.name):
            text = (
                "images of background are skipped, because background is never tagged. "
                "Set data.white_background if the glass is white."
            )
            problems.append(Problem(path.name, "background", text, fatal=False))
        else:
            tissue.append(path)
    spelled = spelling_problems(folder.name, [p.name for p in tissue], "folders")
    for problem in spelled:
        if problem.fatal:
            raise LayoutError(problem.file, problem.kind, problem.text)
    if classes is None:
        classes = made_classes([p.name for p in tissue])
        problems.extend(spelled)
    finder = ClassNames(classes)
    entries: list[FolderEntry] = []
    count = len(classes.tissue_ids)
    for path in tissue:
        index = finder.index(path.name)
        if index is None:
            text = f"the folder '{path.name}' is not a class. {finder.remedy(path.name)}"
            problems.append(Problem(path.name, "unknown class", text, fatal=True))
            continue
        tags = tuple(int(i == index) for i in range(count))
        for file in images_below(path):
            inner = file.relative_to(path).parts
            group = inner[0] if len(inner) > 1 else ""
            entries.append(FolderEntry(file, tags=(tags,), group=group))
    entries, known = _grouped(entries, keep_single=False)
    return FolderIndex(
        root=folder,
        layout="folders",
        classes=classes,
        entries=tuple(entries),
        groups_known=known,
        problems=tuple(problems),
    )
