"""The table of readers: a row is all that a new slide format needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg._reader import get_reader
from napari_plimseg.errors import ConfigError, SlideError
from napari_plimseg.results.export.formats import FORMATS
from napari_plimseg.slides import Level, Slide, open_slide
from napari_plimseg.slides.opening import (
    OUR_ENDINGS,
    READERS,
    SlideReader,
    filename_patterns,
    find_reader,
    slides_in,
)
from napari_plimseg.slides.validation.files import FileKind
from tests.support import slides as factory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class RawSlide(Slide):
    """Pixels behind the four letters RAW8, a square picture."""

    def __init__(self, path: Path) -> None:
        self._pixels = np.frombuffer(path.read_bytes()[4:], np.uint8).reshape(64, 64, 3)
        super().__init__(path, (Level((64, 64), 1.0),), mpp=0.5, format_name="raw")

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        return self._pixels[y : y + height, x : x + width]

    def _close(self) -> None:
        pass


ROW = SlideReader(("*.raw8",), RawSlide, recognizes=lambda path, head: head.startswith(b"RAW8"))


def raw(folder: Path) -> tuple[Path, NDArray[np.uint8]]:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = folder / "a.raw8"
    path.write_bytes(b"RAW8" + pixels.tobytes())
    return path, pixels


def test_a_row_makes_a_format_known_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pixels = raw(tmp_path)
    with pytest.raises(SlideError, match="not a slide"):
        open_slide(path)
    monkeypatch.setitem(READERS, "raw", ROW)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_level(0, 0, 0, 64, 64), pixels)
    assert "*.raw8" in filename_patterns()
    assert get_reader(path) is not None
    factory.write_picture(tmp_path / "preview.png", pixels)
    assert list(slides_in(tmp_path)) == [path]


def test_every_kind_of_content_has_exactly_one_reader() -> None:
    kinds = [kind for reader in READERS.values() for kind in reader.kinds]
    assert sorted(k.name for k in kinds) == sorted(k.name for k in FileKind)


def test_patterns_are_listed_once() -> None:
    patterns = filename_patterns()
    assert len(patterns) == len(set(patterns))


@pytest.mark.parametrize(
    ("patterns", "kinds"), [((), {FileKind.PNG}), (("*.SVS",), {FileKind.TIFF}), (("*.a",), set())]
)
def test_a_row_that_can_t_work_is_refused(patterns: tuple[str, ...], kinds: set[FileKind]) -> None:
    with pytest.raises(ConfigError):
        SlideReader(patterns, RawSlide, frozenset(kinds))


def test_exports_that_look_like_slides_are_never_taken_for_slides(tmp_path: Path) -> None:
    for kind in FORMATS.values():
        readable = any(
            kind.suffix.endswith(pattern.removeprefix("*")) for pattern in filename_patterns()
        )
        assert not readable or kind.suffix in OUR_ENDINGS, kind.suffix


def test_a_file_without_reader_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = factory.write_picture(tmp_path / "p.png", np.zeros((8, 8, 3), np.uint8))
    monkeypatch.delitem(READERS, "Pictures")
    with pytest.raises(SlideError, match="no reader for PNG"):
        find_reader(path)
