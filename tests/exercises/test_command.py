"""Exercise: add a command. This module is the command's module."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.cli import main, program
from napari_plimseg.cli.console import add_command
from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_plimseg.cli.console import Commands, Output


def add_parser(commands: Commands) -> None:
    """Add `plimseg color`."""
    parser = add_command(commands, "color", _run, help="print the mean color of a slide")
    parser.add_argument("slide", metavar="SLIDE")
    parser.add_argument("--side", type=int, default=64, help="pixels per side that are looked at")


def _run(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.slides import open_slide

    if options.side < 1:
        raise ConfigError(f"a side of {options.side} pixels is empty", remedy="Write --side 64.")
    with open_slide(options.slide) as slide:
        pixels = slide.read_level(0, 0, 0, options.side, options.side)
    mean = [round(float(value)) for value in pixels.mean((0, 1))]
    output.facts("color", {"slide": slide.name, "rgb": mean})
    output.text(f"{slide.name}: {mean}")
    return 0


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "COMMANDS", (*program.COMMANDS, sys.modules[__name__]))


@pytest.fixture
def slide(tmp_path: Path) -> str:
    path = tmp_path / "case 3.png"
    Image.fromarray(np.full((64, 64, 3), (10, 20, 30), np.uint8)).save(path)
    return str(path)


def exit_code(arguments: list[str]) -> int:
    """Return the exit code, also where argparse ends the program."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_without_the_row_it_is_unknown(slide: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["color", slide]) == 2
    assert "invalid choice: 'color'" in capsys.readouterr().err


@pytest.mark.usefixtures("row")
def test_it_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    assert "print the mean color of a slide" in capsys.readouterr().out
    assert exit_code(["color", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--side" in shown
    # those that all commands have
    assert "--json" in shown


@pytest.mark.usefixtures("row")
def test_it_prints_for_people_and_for_programs(
    slide: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["color", slide]) == 0
    assert capsys.readouterr().out == "case 3.png: [10, 20, 30]\n"
    assert exit_code(["color", slide, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"event": "color", "slide": "case 3.png", "rgb": [10, 20, 30]}


@pytest.mark.usefixtures("row")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["missing.svs"], 3, "missing.svs"),
        (["{slide}", "--side", "0"], 2, "Write --side 64."),
        (["{slide}", "--side", "many"], 2, "invalid int value"),
        ([], 2, "SLIDE"),
    ],
)
def test_mistakes_have_a_sentence_and_an_exit_code(
    arguments: list[str], code: int, says: str, slide: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["color", *(part.format(slide=slide) for part in arguments)]) == code
    assert says in capsys.readouterr().err
