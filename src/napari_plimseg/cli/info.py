"""`plimseg info`: the size, pixel size and levels of slides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_plimseg.cli.console import add_command, exit_code
from napari_plimseg.cli.paths import expand
from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.console import Commands, Output


def add_parser(commands: Commands) -> None:
    """Add `plimseg info`."""
    parser = add_command(commands, "info", _run, help="print the size and levels of slides")
    parser.add_argument("slides", nargs="+", metavar="SLIDE", help="files, folders or patterns")


def _run(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.slides import open_slide

    failures = []
    paths = expand(options.slides)
    for path in paths:
        try:
            with open_slide(path) as slide:
                height, width = slide.shape
                facts: dict[str, Any] = {
                    "slide": slide.name,
                    "format": slide.format_name,
                    "width": width,
                    "height": height,
                    "mpp": slide.mpp,
                    "levels": [
                        {
                            "width": level.shape[1],
                            "height": level.shape[0],
                            "downsample": round(level.downsample, 5),
                        }
                        for level in slide.levels
                    ],
                    "bounds": [
                        slide.bounds.x,
                        slide.bounds.y,
                        slide.bounds.width,
                        slide.bounds.height,
                    ],
                    "notes": list(slide.notes),
                }
                output.slide(facts)
                _print_facts(facts, output)
        except PlimsegError as error:
            output.error(str(error), code=error.exit_code, slide=path.name)
            failures.append(error.exit_code)
    return exit_code(failures, len(paths))


def _print_facts(facts: dict[str, Any], output: Output) -> None:
    output.text(f"{facts['slide']}: {facts['format']}")
    output.text(f"  size    {facts['width']} x {facts['height']} px")
    if any("not square" in note for note in facts["notes"]):
        output.text("  pixel   not square, so there is no single size")
    elif facts["mpp"] is None:
        output.text("  pixel   size not in the file; give it with --mpp")
    else:
        width, height = (facts[side] * facts["mpp"] / 1000 for side in ("width", "height"))
        output.text(f"  pixel   {facts['mpp']:.4g} um, so {width:.2f} x {height:.2f} mm")
    for i, level in enumerate(facts["levels"]):
        size = f"{level['width']} x {level['height']}"
        output.text(f"  level {i} {size} (1:{level['downsample']:g})")
    for note in facts["notes"]:
        output.text(f"  note    {note}")
