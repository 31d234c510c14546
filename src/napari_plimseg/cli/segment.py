"""What `plimseg segment`, `export` and `demo` do, slide by slide."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from napari_plimseg.errors import ConfigError, ExportError, PlimsegError
from napari_plimseg.tissue import COLORECTAL, PRESETS, TissueClass, TissueClasses

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from napari_plimseg.cli.output import Output
    from napari_plimseg.inference.job import SegmentationJob
    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.slides.slide import Region


def parse_region(text: str) -> Region:
    """Read "X,Y,W,H" in level-0 pixels."""
    from napari_plimseg.slides import Region

    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"'{text}' is not a region", remedy="Write --region X,Y,WIDTH,HEIGHT in level-0 pixels."
        ) from error
    if width <= 0 or height <= 0:
        raise ConfigError(f"the region '{text}' is empty", remedy="Give a width and a height.")
    return Region(y, x, height, width)


def parse_classes(text: str | None, prompts: str | None) -> TissueClasses | None:
    """Read `--classes` and `--prompts`; None keeps the model's own classes.

    Parameters
    ----------
    text : str or None
        A preset's name, a YAML file, or words with commas: each becomes a class of that name.
    prompts : str or None
        A YAML file of class name -> words; names that are not there yet become classes.
    """
    classes: TissueClasses | None = None
    if text is not None:
        if text in PRESETS:
            classes = PRESETS[text]
        elif text.endswith((".yaml", ".yml")):
            classes = TissueClasses.from_yaml(text)
        else:
            classes = TissueClasses.of(word.strip() for word in text.split(",") if word.strip())
    if prompts is None:
        return classes
    try:
        table = yaml.safe_load(Path(prompts).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"not a readable YAML file ({error})", path=prompts) from error
    if not isinstance(table, dict):
        raise ConfigError(
            "is not a table", path=prompts, remedy="Write lines like 'gland: [crypt, tubule]'."
        )
    classes = classes or COLORECTAL
    known = {name.casefold() for name in classes.names}
    for name, words in table.items():
        listed = tuple(str(w) for w in words) if isinstance(words, list) else (str(words),)
        if str(name).casefold() in known:
            old = classes[classes.mask_id(str(name)) - 1]
            classes = classes.replaced(old.name, replace(old, prompts=listed))
        else:
            classes = classes.with_class(TissueClass(str(name), classes.fresh_color(), listed))
    return classes


def job_from_options(options: argparse.Namespace, formats: tuple[str, ...]) -> SegmentationJob:
    """Check every option and load the model, before the first slide is touched."""
    from napari_plimseg.inference.devices import pick_device
    from napari_plimseg.inference.job import SegmentationJob
    from napari_plimseg.inference.plan import RunRegion, RunSettings

    settings = RunSettings(
        tile_size=options.tile_size,
        batch_size=options.batch_size,
        readers=options.readers,
        device=options.device,
        threads=options.threads,
        probabilities=options.probabilities,
    )
    if options.no_tissue:
        settings = replace(settings, tissue=None)
    pick_device(settings.device)
    region = None
    if options.region is not None:
        region = RunRegion.rectangle(parse_region(options.region), clip=True)
    job = SegmentationJob(
        model=options.model,
        classes=parse_classes(options.classes, options.prompts),
        settings=settings,
        region=region,
        folder=options.out,
        formats=formats,
        at=options.at,
        resume=options.resume,
    ).loaded()
    _check_writable(options.out)
    return job


def segment_slides(
    job: SegmentationJob,
    paths: Sequence[Path],
    stems: Sequence[str],
    output: Output,
    *,
    mpp: float | None = None,
) -> list[int]:
    """Segment slides, print the areas, and return the exit codes of those that failed.

    Parameters
    ----------
    job : SegmentationJob
        With its model loaded.
    paths, stems : sequence
        The slides, and the names of their results.
    output : Output
    mpp : float, optional
        Micrometers per level-0 pixel, for slides whose files have none.
    """
    from napari_plimseg.inference.cohort import Cohort, ItemState

    cohort = Cohort()
    for path, stem in zip(paths, stems, strict=True):
        added = cohort.add(path, mpp=mpp, stem=stem, look=False)
        if added.refusal:
            output.say(f"  note: {added.refusal}")
    failures = []
    with contextlib.closing(cohort.run(lambda: job)) as steps:
        for told in steps:
            _log(told.item.path.name, job.dense_model.name, told.step, output)
            if isinstance(told.step, PlimsegError):
                failures.append(told.step.exit_code)
    # a full disk ends a run: the slides still waiting have failed with it
    return failures + [1] * cohort.count(ItemState.WAITING)


def _log(slide: str, model: str, step: object, output: Output) -> None:
    from napari_plimseg.inference.job import SlideDone, SlideOpened
    from napari_plimseg.inference.progress import Progress

    if isinstance(step, SlideOpened):
        output.start(step.name, model)
        for note in step.notes:
            output.say(f"  note: {note}")
    elif isinstance(step, Progress):
        output.progress(slide, step)
    elif isinstance(step, SlideDone):
        output.result(step.info, step.areas, step.files, step.seconds, step.unreadable_tiles)
    elif isinstance(step, PlimsegError):
        output.error(str(step), code=step.exit_code, slide=slide)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".plimseg-probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ExportError(
            f"can't be written to ({error.strerror})",
            path=folder,
            remedy="Choose another folder with --out.",
        ) from error


def export_mask(
    path: Path,
    *,
    slide_path: str | None,
    folder: Path | None,
    formats: Sequence[str],
    explicit: bool,
    at: Literal["mask", "slide"],
    with_corrections: bool,
    output: Output,
) -> list[Path]:
    """Export a mask store or a label TIFF in other formats; return the files.

    A store is exported with the corrections that lie beside it, unless they are not wanted.
    """
    from napari_plimseg.results.corrections.corrections import corrected
    from napari_plimseg.results.export.formats import FORMATS, export_all
    from napari_plimseg.results.export.label_tiff import read_label_tiff
    from napari_plimseg.results.mask_store import MaskStore
    from napari_plimseg.slides import open_slide

    mask: MaskArray
    if path.is_dir():
        with MaskStore.open(path) as store:
            mask, info = store.read_classes(), store.info
            if with_corrections:
                mask, corrections = corrected(mask, info, path.parent)
                if corrections.pixels:
                    output.say(f"  with corrections: {corrections.pixels:,} pixels")
                if corrections.note():
                    output.say(f"  note: {corrections.note()}")
    else:
        mask, info = read_label_tiff(path)
    if slide_path is None:
        without = [key for key in formats if not FORMATS[key].needs_slide]
        if explicit and len(without) < len(formats):
            (missing, *_) = (FORMATS[key] for key in formats if key not in without)
            raise ExportError(
                f"the export '{missing.title}' needs the slide",
                remedy="Give it with --slide SLIDE.",
            )
        formats = without
    stem = path.name.removesuffix(".plimseg").removesuffix(".mask.ome.tif")
    target = path.parent if folder is None else folder
    _check_writable(target)
    with contextlib.ExitStack() as stack:
        slide = None if slide_path is None else stack.enter_context(open_slide(slide_path))
        if slide is not None and slide.shape != info.slide_shape:
            raise ExportError(
                f"the mask belongs to a slide of {info.slide_shape[1]} x {info.slide_shape[0]} "
                f"pixels, not to '{slide.name}'",
                path=path,
                remedy="Give the slide that the mask was made of.",
            )
        return export_all(target, stem, mask, info, slide, formats=tuple(formats), at=at)


def export_objects(path: Path, slide_path: str, folder: Path, output: Output) -> Path:
    """Write what a person corrected in a mask as images with outlines; return the table."""
    from napari_plimseg.files import fingerprint
    from napari_plimseg.results.corrections.corrections import corrected
    from napari_plimseg.results.corrections.objects import export_corrected_objects
    from napari_plimseg.results.mask_store import MaskStore
    from napari_plimseg.slides import open_slide

    _check_writable(folder)
    with MaskStore.open(path) as store, open_slide(slide_path) as slide:
        if fingerprint(slide.path) != store.info.slide_fingerprint:
            raise ExportError(
                f"the mask belongs to '{store.info.slide_name}', not to '{slide.name}'",
                path=path,
                remedy="Give the slide that the mask was made of.",
            )
        mask, corrections = corrected(store.read_classes(), store.info, path.parent)
        found = export_corrected_objects(folder, slide, mask, corrections)
    output.say(
        f"  {found.objects} corrected object(s) in {found.fields} field(s). To train on them: "
        f"plimseg train wsi_sam --set data.train={folder}"
    )
    return found.table


def show_result(path: Path, store: Path, output: Output) -> None:
    """Open napari on a slide and its mask; say why not where there is no screen."""
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        output.say("No screen here, so the viewer stays closed; look at the overlay picture.")
        return
    try:
        from napari_plimseg._widgets.open_in_viewer import show_slide_and_mask
    except ImportError as error:
        output.say(
            f"The viewer needs napari with a Qt binding (pip install 'napari[all]'): {error}"
        )
        return
    show_slide_and_mask(path, store)
