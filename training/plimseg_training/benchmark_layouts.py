"""GlaS and WSSS4LUAD: large images with masks, cut into tagged windows."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from napari_plimseg.tissue import GLAS, WSSS4LUAD
from plimseg_training.folder_report import Problem
from plimseg_training.listing import Entry, LayoutError, Listing
from plimseg_training.pictures import image_files
from plimseg_training.window_tags import WindowRule

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.tissue import TissueClasses

GLAS_RULE = WindowRule(side=112, stride=56, minimum=0.05, strictly=True)
"""As OEEM cuts GlaS: both classes are tagged above 5 % of the window."""
WSSS4LUAD_RULE = WindowRule(side=224, stride=56, minimum=0.03)
"""Gives 413 windows of the 31 images, 288 of tumour and stroma, 11 of tumour alone."""
GLAS_MPP = 0.62
WSSS4LUAD_MPP = 1.0

_ANNOTATION = "_anno"


def read_glas(root: Path, classes: TissueClasses | None, split: str) -> Listing:
    """Read GlaS: `img/` with `masks/`, or the official `train_1.bmp` with `train_1_anno.bmp`.

    Parameters
    ----------
    root : Path
        Holds `Grade.csv`, which names each image's patient.
    classes : TissueClasses, optional
        Gland first, other tissue second.
    split : {"train", "validation", "test"}
        "train" is `train_*`, "test" is `testA_*` and `testB_*`; there is no validation part.

    Raises
    ------
    LayoutError
        When `Grade.csv` can't be understood, or the part is not there.
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
            "GlaS has no validation part. Leave data.validation out: patients of the training "
            "part are held out.",
        )
    patients = _patients(root / "Grade.csv")
    pictures = root / "img"
    in_folders = pictures.is_dir()
    files = image_files(pictures if in_folders else root)
    files = [p for p in files if not p.stem.endswith(_ANNOTATION)]
    masks = {p.stem: p for p in (image_files(root / "masks") if in_folders else image_files(root))}
    entries, problems = [], []
    for path in sorted(files, key=_number):
        if not path.stem.startswith("train" if split == "train" else "test"):
            continue
        mask = masks.get(path.stem if in_folders else path.stem + _ANNOTATION)
        patient = patients.get(path.stem)
        if mask is None:
            text = "its mask is missing, and with it the tags. Copy it from the data set."
            problems.append(Problem(path.name, "missing mask", text, fatal=True))
        elif patient is None:
            text = "Grade.csv has no row for it, so its patient is not known. Add the row."
            problems.append(Problem(path.name, "unknown patient", text, fatal=True))
        else:
            entries.append(Entry(path, group=f"patient {patient}", truth=mask))
    return Listing(
        root=root,
        layout="glas",
        classes=classes,
        entries=tuple(entries),
        mpp=GLAS_MPP,
        truth_ids={0: 2} | dict.fromkeys(range(1, 256), 1),  # one value a gland
        unscored=frozenset(),
        rule=GLAS_RULE,
        problems=tuple(problems),
    )


def _number(path: Path) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)([0-9]*)", path.stem)
    return (found[1], int(found[2] or 0)) if found else (path.stem, 0)


def _patients(path: Path) -> dict[str, str]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(
            path.name,
            "unreadable table",
            "it can't be read. GlaS brings it: it names each image's patient. Copy it again.",
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


def read_wsss4luad(root: Path, classes: TissueClasses | None) -> Listing:
    """Read WSSS4LUAD's large images: `img/` with `mask/`; each image is its own group.

    Parameters
    ----------
    root : Path
        Holds `img` and `mask`: values 0 tumour, 1 stroma, 2 normal, 3 white, which is not scored.
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
    masks = {path.stem: path for path in image_files(root / "mask")}
    entries, problems = [], []
    for path in image_files(root / "img"):
        mask = masks.get(path.stem)
        if mask is None:
            text = "its mask is missing, and with it the tags. Copy it from the data set."
            problems.append(Problem(path.name, "missing mask", text, fatal=True))
        else:
            entries.append(Entry(path, group=path.stem, truth=mask))
    return Listing(
        root=root,
        layout="wsss4luad",
        classes=classes,
        entries=tuple(entries),
        mpp=WSSS4LUAD_MPP,
        truth_ids={0: 1, 1: 2, 2: 3},
        unscored=frozenset({3}),
        rule=WSSS4LUAD_RULE,
        problems=tuple(problems),
    )
