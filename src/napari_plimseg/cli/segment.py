"""`plimseg segment`: segment slides and export the masks."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.cluster import add_cluster_options, parse_cluster, run_on_workers
from napari_plimseg.cli.console import add_command, check_writable, exit_code
from napari_plimseg.cli.export import add_export_options, parse_formats
from napari_plimseg.cli.paths import expand
from napari_plimseg.cli.stopping import Finishing
from napari_plimseg.errors import ConfigError, PlimsegError, SlideError
from napari_plimseg.tissue import (
    COLORECTAL,
    PRESETS,
    TissueClasses,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_plimseg.cli.console import Commands, Output
    from napari_plimseg.inference import (
        ClusterChoice,
        Cohort,
        CohortItem,
        CohortStep,
        SegmentationJob,
    )
    from napari_plimseg.slides import Region


EXIT_CODES = """exit codes: 0 done, 1 unexpected error, 2 wrong option, 3 slide can't be opened,
4 model can't be used, 6 mask store damaged or disk full, 7 export can't be written,
8 some of several slides failed (the others are done), 130 interrupted and 143 terminated
(finished tiles are kept; the same command continues).
For research use only; not a medical device."""


def add_parser(commands: Commands) -> None:
    """Add `plimseg segment`."""
    parser = add_command(
        commands,
        "segment",
        _run,
        help="segment slides and export the masks",
        epilog=EXIT_CODES,
    )
    _add_options(parser)


def segment_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of `plimseg segment` for the given arguments."""
    parser = argparse.ArgumentParser()
    _add_options(parser)
    return parser.parse_args(arguments)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slides", nargs="+", metavar="SLIDE", help="files, folders or patterns")
    model = parser.add_argument_group("model and classes")
    model.add_argument("--model", default="bundled", help="a name of `plimseg models`, or a file")
    model.add_argument(
        "--classes",
        metavar="LIST",
        help="'gland, stroma, fat', a YAML file, or one of: colorectal, luad_histoseg, ...",
    )
    model.add_argument(
        "--prompts", metavar="FILE", help="YAML: class name -> words that describe it"
    )
    where = parser.add_argument_group("where and at which resolution")
    where.add_argument("--region", metavar="X,Y,W,H", help="level-0 pixels; default: all")
    where.add_argument("--mpp", type=float, help="um per level-0 pixel, if missing in the file")
    where.add_argument(
        "--override-mpp",
        action="store_true",
        help="take --mpp also where the file has another pixel size",
    )
    where.add_argument("--no-tissue", action="store_true", help="also segment empty glass")
    run = parser.add_argument_group("how to run")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    run.add_argument("--tile-size", type=int, default=1024, help="pixels (default 1024)")
    run.add_argument(
        "--batch-size", type=int, default=0, help="tiles per batch (default: automatic)"
    )
    run.add_argument("--readers", type=int, default=2, help="reading threads (default 2)")
    run.add_argument("--threads", type=int, default=0, help="CPU threads of the model")
    run.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16"),
        help="numbers of the model on a CPU: auto (default) is the fastest whose mask agrees with "
        "float32 on 99.5 %% of the checked tissue",
    )
    run.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue an earlier run (default); --no-resume starts over",
    )
    run.add_argument(
        "--probabilities", action="store_true", help="keep the probability of every class"
    )
    add_cluster_options(parser)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for results")
    add_export_options(parser, out=False)


def _run(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.inference import distinct_stems

    formats = parse_formats(options.formats)
    cluster = parse_cluster(options)
    paths = expand(options.slides)
    stems = dict(zip(paths, distinct_stems(paths), strict=True))
    job = job_from_options(options, formats)
    if cluster is not None:
        # thousands of slides are not opened here first: each worker says what is wrong with its own
        names = list(stems.values())
        failures = segment_slides(job, paths, names, output, mpp=options.mpp, cluster=cluster)
        return exit_code(failures, len(paths))
    sized = list(paths) if options.mpp is not None else [p for p in paths if _has_size(p, output)]
    failures = [SlideError.exit_code] * (len(paths) - len(sized))
    if sized:
        stems_of = [stems[path] for path in sized]
        failures += segment_slides(job.loaded(), sized, stems_of, output, mpp=options.mpp)
    return exit_code(failures, len(paths))


def _has_size(path: Path, output: Output) -> bool:
    """Whether the pixel size of a slide is known; prints an error otherwise.

    Nobody should have to wait for a model, or for other slides, to be asked for it.
    """
    from napari_plimseg.slides import open_slide

    try:
        with open_slide(path) as slide:
            if slide.mpp is not None:
                return True
            try:
                slide.working_downsample(1.0)
            except SlideError as error:
                output.error(str(error), code=error.exit_code, slide=path.name)
            return False
    except PlimsegError:
        return True  # the run says what is wrong


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
        A YAML file of class name -> words; new names become classes.
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
    return (classes or COLORECTAL).with_prompts_from(prompts)


def job_from_options(options: argparse.Namespace, formats: tuple[str, ...]) -> SegmentationJob:
    """Check every option, before the first slide is touched; the job's model is not loaded yet."""
    from napari_plimseg.inference import RunRegion, RunSettings, SegmentationJob, pick_device
    from napari_plimseg.slides import MPP_RANGE, usable_mpp

    if options.override_mpp and options.mpp is None:
        raise ConfigError("--override-mpp needs a pixel size", remedy="Give it with --mpp.")
    if options.mpp is not None and usable_mpp(options.mpp) is None:
        low, high = MPP_RANGE
        raise ConfigError(
            f"--mpp {options.mpp:g} is not a pixel size",
            remedy=f"Give it in um/px, {low} to {high}; scans at 40x have about 0.25.",
        )
    settings = RunSettings(
        tile_size=options.tile_size,
        batch_size=options.batch_size,
        readers=options.readers,
        device=options.device,
        threads=options.threads,
        precision=options.precision,
        probabilities=options.probabilities,
    )
    if options.no_tissue:
        settings = replace(settings, tissue=None)
    if options.cluster is None:
        pick_device(settings.device)  # workers have devices of their own
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
        override_mpp=options.override_mpp,
    )
    check_writable(options.out)
    return job


def segment_slides(
    job: SegmentationJob,
    paths: Sequence[Path],
    stems: Sequence[str],
    output: Output,
    *,
    mpp: float | None = None,
    cluster: ClusterChoice | None = None,
) -> list[int]:
    """Segment slides, print the areas, and return the exit codes of those that failed.

    Parameters
    ----------
    job : SegmentationJob
        With its model loaded, except for workers.
    paths, stems : sequence
        The slides, and the names of their results.
    output : Output
    mpp : float, optional
        Micrometers per level-0 pixel, for slides whose files have none.
    cluster : ClusterChoice, optional
        Workers that segment several slides at a time; this process does without.
    """
    from napari_plimseg.inference import Cohort, ItemState, Refused

    cohort = Cohort()
    for path, stem in zip(paths, stems, strict=True):
        added = cohort.add(path, mpp=mpp, stem=stem, look=False)
        if added.refusal:
            output.say(f"  note: {added.refusal}")
    failures = []
    run: Generator[CohortStep | None, None, None]
    if cluster is None:
        run = cohort.run(lambda: job)
    else:
        run = run_on_workers(cohort, job, cluster, output)
    with Finishing("tile") as stop:
        with contextlib.closing(run) as steps:
            for told in steps:
                if told is not None:
                    _log(told.item, job, told.step, output)
                    if isinstance(told.step, PlimsegError):
                        failures.append(told.step.exit_code)
                    elif isinstance(told.step, Refused):
                        failures.append(ConfigError.exit_code)
                if stop():
                    break
        output.kept = _kept(cohort, again="run it" if job.resume else "without --no-resume, run it")
        if cohort.count(ItemState.STOPPED, ItemState.WAITING):
            stop.raise_if_asked()
    # a full disk ends a run: the slides still waiting have failed with it
    return failures + [1] * cohort.count(ItemState.WAITING)


def _kept(cohort: Cohort, *, again: str) -> str:
    """Return what of a run is kept, and how to resume it."""
    from napari_plimseg.inference import ItemState

    parts = []
    if len(cohort.items) > 1:
        parts.append(f"{cohort.count(ItemState.DONE)} of {len(cohort.items)} slides are done")
    for item in cohort.items:
        if item.state is ItemState.STOPPED and item.tiles_total:
            done = f"{item.tiles_done} of {item.tiles_total}"
            parts.append(f"{done} tiles of '{item.path.name}' are kept")
    return f"{' and '.join(parts) or 'no tile was begun'}; {again} again to continue"


def _log(item: CohortItem, job: SegmentationJob, step: object, output: Output) -> None:
    from napari_plimseg.inference import Notice, Progress, Refused, SlideDone, SlideOpened

    slide, model = item.path.name, job.model
    if isinstance(step, SlideOpened):
        name = Path(model).name if isinstance(model, str | Path) else model.name
        output.start(step.name, name, item.worker)
        for note in step.notes:
            output.say(f"  note: {note}")
    elif isinstance(step, Refused):
        output.error(step.text, code=ConfigError.exit_code, slide=slide)
    elif isinstance(step, Notice):
        output.note(step.text)
    elif isinstance(step, Progress):
        if output.as_json or not item.worker:  # else the table shows it
            output.progress(slide, step)
    elif isinstance(step, SlideDone):
        output.result(step.info, step.areas, step.files, step.seconds, step.unreadable_tiles)
    elif isinstance(step, PlimsegError):
        output.error(str(step), code=step.exit_code, slide=slide)
