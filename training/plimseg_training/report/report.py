"""The report of a training: one self-contained HTML file."""

from __future__ import annotations

import importlib.metadata
import io
import itertools
import math
import os
import platform
import time
from html import escape
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import yaml

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import atomic_write
from napari_plimseg.reading import (
    UnreadableError,
    open_picture,
    parse_yaml,
    read_bytes,
    read_json,
    read_text,
)
from napari_plimseg.training_runs import RunFolder
from plimseg_training.events import read_events, without_folders
from plimseg_training.report.html import Series, facts, heat_table, line_chart, page, picture, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_plimseg.training_runs import Event
    from plimseg_training.data import FolderReport, TaggedFolder
    from plimseg_training.evaluation import Evaluation


EVALUATION_FILES = "evaluation*.json"
"""Evaluations in a run folder, each written by `Evaluation.to_dict`."""
RESEARCH_USE = "For research use only; not a medical device."
_JPEG = b"\xff\xd8"
_PICTURES = 24
_PICTURE_BYTES = 300_000
_PROBLEMS = 200
_PACKAGES = ("napari-plimseg", "torch", "numpy", "pillow", "open_clip_torch", "safetensors")
_STAGES = {
    "stage1": "Stage 1: CAM network",
    "stage2": "Stage 2: segmentation network",
    "distill": "Fast student",
}


def write_report(
    run_folder: str | Path,
    *,
    evaluations: Sequence[Evaluation] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write `report.html` from the contents of a run folder.

    Missing parts are skipped, so that a stopped training can have a report too. It names files and
    the folder of images, but no path: the folders above may be named after users and patients.

    Parameters
    ----------
    run_folder : str or Path
        May contain `recipe.yaml`, `folder.json`, `progress.jsonl`, `previews/*.png` (or
        `.jpg`) and `evaluation*.json`.
    evaluations : sequence of Evaluation
        Further evaluations, without a file in the folder.
    notes : sequence of str
        Sentences for the top of the report.

    Returns
    -------
    Path
        The file written.
    """
    run = RunFolder(Path(run_folder))
    events = read_events(run.progress)
    recipe = _text(run.recipe)
    data = _json(run.folder_summary)
    scored = [e.to_dict() for e in evaluations]
    scored += [_json(path) for path in sorted(run.root.glob(EVALUATION_FILES))]
    title = _recipe_value(recipe, "name") or run.root.name
    body = "".join(
        (
            _head(title, run, events, recipe, notes),
            _scores([e for e in scored if e.get("results")]),
            _curves(events),
            _pictures(run),
            _data(data),
            _recipe(recipe),
        )
    )
    with atomic_write(run.report) as temporary:
        temporary.write_text(page(f"{title}: training report", body), "utf-8")
    return run.report


def seconds_of(events: Sequence[Event]) -> float:
    """Return how long a training ran, without the time between a stop and its resumption."""
    return sum(
        max(0.0, later.time - earlier.time)
        for earlier, later in itertools.pairwise(events)
        if later.kind != "start"
    )


def duration(seconds: float) -> str:
    """Return a duration as text: "1 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _head(
    title: str, run: RunFolder, events: Sequence[Event], recipe: str, notes: Sequence[str]
) -> str:
    state = {"done": "finished", "failed": "failed", "stopped": "stopped"}
    last = next((e for e in reversed(events) if e.kind in {*state, "start"}), None)
    status = "not started" if last is None else state.get(last.kind, "not finished")
    pairs = {
        "State": status
        if last is None or last.kind != "failed"
        else f"failed: {without_folders(last.message)}",
        "Started": _when(events[0].time) if events else "",
        "Ended": _when(events[-1].time) if events and status != "not finished" else "",
        "Time": duration(seconds_of(events)) if events else "",
        "Seed": _recipe_value(recipe, "seed"),
        "Machine": _machine(events),
        "Peak memory": _memory(events),
        "Versions": ", ".join(f"{n} {v}" for n, v in _versions().items()),
        "Model file": _model_file(run),
    }
    said = "".join(f"<p>{escape(without_folders(note))}</p>" for note in notes)
    warned = list(dict.fromkeys(e.message for e in events if e.kind == "warning" and e.message))
    warnings = "".join(
        f"<p>Warning: {escape(without_folders(message))}</p>" for message in warned[:20]
    )
    return (
        f"<h1>{escape(title)}</h1>"
        '<p class="lead">Tissue segmentation learned from image-level tags</p>'
        f'<p class="caveat">{RESEARCH_USE} Scores hold for the images named here; other '
        "scanners, stains and organs can do worse.</p>"
        f"{said}{warnings}{facts(pairs)}"
    )


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> str:
    if not evaluations:
        return ""
    parts = [
        "<h2>Scores</h2><p class=faint>In percent, over the pixels of all images together.</p>"
    ]
    for evaluation in evaluations:
        results = evaluation["results"]
        skipped = evaluation.get("skipped", [])
        parts.append(
            _paragraph(
                without_folders(f"{evaluation['model']} on {evaluation['data']}: ")
                + f"{evaluation['images']} images"
                + (f", {len(skipped)} not scored" if skipped else ""),
                tag="h3",
            )
        )
        rows = [["protocol", "mIoU", "FwIoU", "Dice (true)", "2m/(1+m)", "pixel accuracy"]]
        keys = ("miou", "fwiou", "mean_dice", "dice_of_miou", "pixel_accuracy")
        rows += [[r["title"], *(_percent(r[key]) for key in keys)] for r in results]
        parts.append(table(rows))
        names = list(dict.fromkeys(name for r in results for name in r["iou"]))
        for score, title in (("iou", "IoU of each class"), ("dice", "True Dice of each class")):
            rows = [[title, *names]]
            rows += [[r["title"], *(_percent(r[score].get(n)) for n in names)] for r in results]
            parts.append(table(rows))
        for r in results:
            if "oeem_dice" in r:
                parts.append(
                    _paragraph(
                        f"OEEM-Dice, which is 2m/(1+m): {_percent(r['oeem_dice'])}; true Dice of "
                        f"{next(iter(r['dice']))}: {_percent(r['true_dice_of_first_class'])}."
                    )
                )
        if any(r["oracle_tags"] for r in results):
            parts.append(
                _paragraph(
                    "Oracle tags: classes missing in the truth of an image can't be predicted on "
                    "it. No user has such tags."
                )
            )
        parts.append(f"<h3>Confusion under {escape(results[0]['title'])}</h3>")
        parts.append(heat_table(list(results[0]["iou"]), results[0]["confusion"]))
        parts += [_paragraph(f"Note: {without_folders(n)}") for n in evaluation.get("notes", [])]
    return "".join(parts)


def _curves(events: Sequence[Event]) -> str:
    by_stage: dict[str, dict[int, Event]] = {}
    for event in events:
        if event.kind == "epoch" and event.stage:
            # an epoch that was repeated after a kill counts once, with its latest result
            by_stage.setdefault(event.stage, {})[event.epoch] = event
    parts = []
    for stage, epochs in by_stage.items():
        ordered = [epochs[number] for number in sorted(epochs)]
        charts = (
            line_chart("Losses", _series(ordered, "losses")),
            line_chart("Validation", _series(ordered, "scores")),
            line_chart(
                "Learning rate",
                {"learning rate": [(float(e.epoch), e.learning_rate) for e in ordered]},
            ),
        )
        title = _STAGES.get(stage, stage)
        parts.append(f'<h3>{escape(title)}</h3><div class="charts">{"".join(charts)}</div>')
    return "<h2>How it learned</h2>" + "".join(parts) if parts else ""


def _series(events: Sequence[Event], kind: str) -> dict[str, Series]:
    series: dict[str, Series] = {}
    for event in events:
        values: dict[str, Any] = getattr(event, kind)
        for name, value in values.items():
            series.setdefault(name, []).append((float(event.epoch), float(value)))
    return series


def _pictures(run: RunFolder) -> str:
    files = sorted(
        path
        for path in run.previews.glob("*")
        if path.suffix in {".png", ".jpg"} and not path.name.startswith(".")
    )
    if not files:
        return ""
    more = len(files) - _PICTURES
    parts = ['<h2>Pictures</h2><div class="pictures">']
    for path in files[:_PICTURES]:
        try:
            content, kind = _small(path)
        except (OSError, UnreadableError):
            parts.append(_paragraph(f"{path.name} can't be read."))
            continue
        parts.append(picture(content, kind, path.stem.replace("_", " ")))
    parts.append("</div>")
    if more > 0:
        parts.append(_paragraph(f"{more} more in the folder '{run.previews.name}'."))
    return "".join(parts)


def _small(path: Path) -> tuple[bytes, str]:
    content = read_bytes(path, UnreadableError)
    if len(content) <= _PICTURE_BYTES // 4:
        return content, "jpeg" if content.startswith(_JPEG) else "png"
    with open_picture(path, UnreadableError) as opened:
        image = opened.convert("RGB")
    quality = 85
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _PICTURE_BYTES or quality <= 45:
            return buffer.getvalue(), "jpeg"
        quality -= 10


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    mpp = data.get("mpp")
    pairs = {
        "Folder": str(data.get("name", "")),
        "Layout": str(data.get("layout", "")),
        "Pixel size": "unknown" if mpp is None else f"{mpp:g} um",
        "SHA-256 of images and tags": str(data.get("digest", "")),
    }
    parts = ["<h2>Data</h2>", facts(pairs)]
    known: Mapping[str, Mapping[str, Any]] = data.get("parts", {})
    if known:
        names = list(dict.fromkeys(name for part in known.values() for name in part["tags"]))
        rows = [["part", "images", "windows", "slides or patients", "with truth", *names]]
        keys = ("images", "windows", "groups", "with_truth")
        rows += [
            [
                name,
                *(f"{part[key]:,}" for key in keys),
                *(f"{part['tags'].get(n, 0):,}" for n in names),
            ]
            for name, part in known.items()
        ]
        parts += [_paragraph("Class columns: windows with that tag."), table(rows)]
    problems = data.get("problems", [])
    if problems:
        rows = [["file", "problem", "description"]]
        rows += [
            [without_folders(p["file"]), p["kind"], without_folders(p["text"])]
            for p in problems[:_PROBLEMS]
        ]
        count = int(data.get("problem_count", len(problems)))
        parts.append(f"<h3>Found by the check: {count}</h3>" + table(rows, kind="text"))
        if count > _PROBLEMS:
            parts.append(_paragraph(f"{count - _PROBLEMS} more."))
    return "".join(parts)


def _recipe(recipe: str) -> str:
    if not recipe:
        return ""
    try:
        content = yaml.safe_dump(
            _without_folders(parse_yaml(recipe, ConfigError)),
            sort_keys=False, allow_unicode=True, width=1000,
        )  # fmt: skip
    except ConfigError:
        content = without_folders(recipe)
    return f"<h2>Recipe</h2><pre>{escape(content)}</pre>"


def _without_folders(value: Any) -> Any:
    """Return a value of a recipe with the last part of each path, after the encoder's scheme."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if not isinstance(value, str):
        return value
    scheme, colon, rest = value.partition(":")
    if not colon or len(scheme) < 2:  # a letter is a drive
        scheme, colon, rest = "", "", value
    absolute = PurePosixPath(rest).is_absolute() or PureWindowsPath(rest).is_absolute()
    if absolute or rest.startswith("~"):
        return f"{scheme}{colon}{PureWindowsPath(rest).name}"
    return without_folders(value)


def _paragraph(text: str, tag: str = "p") -> str:
    return f"<{tag}>{escape(text)}</{tag}>"


def _percent(score: float | None) -> str:
    return "–" if score is None or math.isnan(score) else f"{100 * score:.2f}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _machine(events: Sequence[Event]) -> str:
    named = next((e.data["device"] for e in reversed(events) if "device" in e.data), "")
    cores = f"{os.cpu_count() or 1} CPU cores"
    return ", ".join(part for part in (str(named), cores, f"{platform.system()}") if part)


def _memory(events: Sequence[Event]) -> str:
    most = max((e.memory_mb for e in events), default=0.0)
    return f"{most:,.0f} MB" if most else ""


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _model_file(run: RunFolder) -> str:
    if not run.model_file.exists():
        return ""
    return f"{run.model_file.name}, {run.model_file.stat().st_size / 1e6:.1f} MB"


def _recipe_value(recipe: str, key: str) -> str:
    for line in recipe.splitlines():
        name, sign, value = line.partition(":")
        if sign and name == key:
            return value.strip().strip("'\"")
    return ""


def _text(path: Path) -> str:
    try:
        return read_text(path, UnreadableError)
    except UnreadableError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path, UnreadableError, finite=False))
    except UnreadableError:
        return {}


_PROBLEMS_KEPT = 500


def folder_summary(
    report: FolderReport,
    training: TaggedFolder | None = None,
    validation: TaggedFolder | None = None,
) -> dict[str, Any]:
    """Return the scanned folder and its split as plain data for `folder.json`.

    Parameters
    ----------
    report : FolderReport
        Result of the scan.
    training, validation : TaggedFolder, optional
        The two parts.

    Returns
    -------
    dict
        Only with the last part of folder names: the folders above may be named after patients.
    """
    folder = report.folder or training
    parts = {"training": training, "validation": validation}
    return {
        "name": "" if folder is None else folder.root.name,
        "layout": "" if folder is None else folder.layout,
        "mpp": None if folder is None else folder.mpp,
        # the digest reads every file, so only that of the training part is computed
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
