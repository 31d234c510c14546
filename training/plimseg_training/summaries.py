"""What a run folder says about its data, for people and programs: `folder.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plimseg_training.folder_report import FolderReport
    from plimseg_training.tagged_folder import TaggedFolder

_PROBLEMS_KEPT = 500


def folder_summary(
    report: FolderReport,
    training: TaggedFolder | None = None,
    validation: TaggedFolder | None = None,
) -> dict[str, Any]:
    """Return what was scanned and how it was split, as plain data for `folder.json`.

    Parameters
    ----------
    report : FolderReport
        Of the scan.
    training, validation : TaggedFolder, optional
        The parts that are trained and measured on.

    Returns
    -------
    dict
        Folder names are their last part only: what lies above may be named for patients.
    """
    folder = report.folder or training
    parts = {"training": training, "validation": validation}
    return {
        "name": "" if folder is None else folder.root.name,
        "layout": "" if folder is None else folder.layout,
        "mpp": None if folder is None else folder.mpp,
        # reading every file once is enough: what was trained on is what counts
        "digest": "" if folder is None else (training or folder).digest(),
        "classes": {} if folder is None else folder.classes.to_dict(),
        "parts": {name: _part(part) for name, part in parts.items() if part is not None},
        "problems": [
            {"file": p.file, "kind": p.kind, "text": p.text, "fatal": p.fatal}
            for p in report.problems[:_PROBLEMS_KEPT]
        ],
        "problem_count": len(report.problems),
    }


def _part(folder: TaggedFolder) -> dict[str, Any]:
    counts = folder.tag_counts()
    names = [folder.classes.names[i - 1] for i in folder.classes.tissue_ids]
    return {
        "images": len(folder.images),
        "windows": sum(len(image.windows) for image in folder.images),
        "groups": len(folder.groups),
        "with_truth": sum(image.truth is not None for image in folder.images),
        "tags": {name: int(count) for name, count in zip(names, counts, strict=True)},
    }
