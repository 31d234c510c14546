"""Exercise: add a slide format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg import api, models
from napari_plimseg._reader import get_reader
from napari_plimseg.cli import main
from napari_plimseg.errors import SlideError
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.slides import Level, Slide, open_slide
from napari_plimseg.slides.opening import READERS, SlideReader, filename_patterns, slides_in
from tests.support.models import ColorModel

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEIGHT, WIDTH, MPP = 384, 640, 0.5
RED_COLUMNS = 256
MAGIC = b"SCAN1 "


class ScanSlide(Slide):
    """An invented format: one line with height, width and pixel size, then bare RGB."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            height, width, mpp = file.readline(64).removeprefix(MAGIC).split()
            self._start = file.tell()
        shape = (int(height), int(width))
        if path.stat().st_size != self._start + 3 * shape[0] * shape[1]:
            raise SlideError("its pixels are cut off", path=path, remedy="Copy it again.")
        super().__init__(path, (Level(shape, 1.0),), mpp=float(mpp), format_name="Scan")

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        pixels = np.memmap(self.path, np.uint8, "r", self._start, (*self.shape, 3))
        return np.array(pixels[y : y + height, x : x + width])

    def _close(self) -> None:
        pass


ROW = SlideReader(("*.scan1",), ScanSlide, recognizes=lambda path, head: head.startswith(MAGIC))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A slide in the new format: red on the left, green on the right."""
    pixels = np.full((HEIGHT, WIDTH, 3), (60, 190, 120), np.uint8)
    pixels[:, :RED_COLUMNS] = (190, 60, 120)
    path = tmp_path / "case 1.scan1"
    path.write_bytes(MAGIC + f"{HEIGHT} {WIDTH} {MPP}\n".encode() + pixels.tobytes())
    return path


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "Scan", ROW)


def test_without_the_row_it_is_no_slide(scan: Path) -> None:
    with pytest.raises(SlideError, match="not a slide"):
        open_slide(scan)
    assert get_reader(scan) is None


@pytest.mark.usefixtures("row")
def test_it_opens_everywhere(scan: Path) -> None:
    with open_slide(scan) as slide:
        assert (slide.shape, slide.mpp, slide.format_name) == ((HEIGHT, WIDTH), MPP, "Scan")
        corner = slide.read_level(0, -1, RED_COLUMNS - 1, 2, 2)
    assert corner.tolist() == [[[255] * 3] * 2, [[190, 60, 120], [60, 190, 120]]]
    assert "*.scan1" in filename_patterns()
    assert list(slides_in(scan.parent)) == [scan]
    reader = get_reader(str(scan))
    assert reader is not None
    data, options, kind = reader(str(scan))[0]
    assert (kind, options["name"], options["scale"]) == ("image", "case 1", (MPP, MPP))
    assert np.asarray(data[0]).shape == (HEIGHT, WIDTH, 3)
    options["metadata"]["plimseg_slide"].close()


@pytest.mark.usefixtures("row")
def test_from_its_pixels_to_areas(scan: Path) -> None:
    settings = RunSettings(tissue=None, device="cpu")
    result = api.segment(scan, ColorModel(), out=scan.parent / "results", settings=settings)
    mask = result.mask
    border = RED_COLUMNS // 4  # a mask pixel has four pixels of the slide on each side
    assert mask.shape == (HEIGHT // 4, WIDTH // 4)
    assert (mask[8:-8, 8 : border - 8] == 1).all()
    assert (mask[8:-8, border + 8 : -8] == 2).all()
    areas = {area.name: area for area in result.areas()}
    mm2 = HEIGHT * RED_COLUMNS * (MPP / 1000) ** 2
    assert areas["red"].mm2 == pytest.approx(mm2, rel=0.03)
    assert areas["red"].percent_of_tissue == pytest.approx(100 * RED_COLUMNS / WIDTH, abs=1)


@pytest.mark.usefixtures("row")
def test_on_the_command_line(
    scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "load_model", lambda name, classes=None: ColorModel())
    out = scan.parent / "results"
    arguments = ["--no-tissue", "--device", "cpu", "--out", str(out), "--format", "csv"]
    assert main(["segment", str(scan), *arguments]) == 0
    assert "40.0 % of tissue" in capsys.readouterr().out
    assert (out / "case 1.areas.csv").is_file()
    scan.write_bytes(scan.read_bytes()[:-1])
    assert main(["segment", str(scan), *arguments]) == 3
    said = capsys.readouterr().err
    assert "case 1.scan1" in said
    assert "its pixels are cut off" in said
