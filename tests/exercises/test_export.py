"""Exercise: add an export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_plimseg import api
from napari_plimseg.cli import main
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.results.export.formats import FORMATS, Format
from napari_plimseg.results.export.writing import export_to
from tests.support.models import ColorModel, painted

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.results.export.formats import Resolution
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.slides.slide import Slide


def write_counts(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    """Write how many mask pixels each class has."""
    counts = np.bincount(np.asarray(mask).ravel(), minlength=256)
    named = {c.name: int(counts[number]) for number, c in enumerate(info.classes, start=1)}
    with export_to(path, mask, info) as temporary:
        temporary.write_text(json.dumps(named))
    return path


ROW = Format(
    "Pixel counts", "Mask pixels of each class.", ".counts.json", ".counts.json", write_counts
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> api.Segmentation:
    root = tmp_path_factory.mktemp("result")
    Image.fromarray(painted(400, 500)).save(root / "case 2.png")
    settings = RunSettings(tissue=None, device="cpu")
    return api.segment(root / "case 2.png", ColorModel(), out=root, mpp=0.5, settings=settings)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "counts", ROW)


def test_without_the_row_it_is_unknown(
    result: api.Segmentation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(result.store_path), "--format", "counts", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "there is no export format 'counts'" in capsys.readouterr().err


@pytest.mark.usefixtures("row")
def test_on_the_command_line(
    result: api.Segmentation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(result.store_path), "--out", str(tmp_path), "--format"]
    assert main([*arguments, "counts"]) == 0
    written = tmp_path / "case 2.counts.json"
    assert f"wrote {written}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [written]
    expected = {c.name: int((result.mask == i).sum()) for i, c in enumerate(result.info.classes, 1)}
    assert json.loads(written.read_text()) == expected
    assert min(expected.values()) > 0
    written.unlink()
    assert main([*arguments, "all"]) == 0
    assert written.is_file()
    assert (tmp_path / "case 2.areas.csv").is_file()
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "counts" in capsys.readouterr().out


@pytest.mark.usefixtures("row")
def test_in_python(result: api.Segmentation, tmp_path: Path) -> None:
    assert tmp_path / "case 2.counts.json" in result.export(tmp_path)


@pytest.mark.gui
@pytest.mark.usefixtures("row")
def test_in_the_list_of_the_docks(qtbot: Any) -> None:
    from napari_plimseg._widgets.generate.results import ResultsSection, export_choices

    assert ("counts", ROW.title, ROW.about) in export_choices()
    section = ResultsSection()
    qtbot.addWidget(section)
    pressed: list[str] = []
    section.exportRequested.connect(pressed.append)
    section.export_buttons["counts"].setEnabled(True)
    section.export_buttons["counts"].click()
    assert pressed == ["counts"]
