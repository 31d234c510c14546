"""Every door that opens a file: a pipe, a device or a socket there is our error, never a wait."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.cli import main
from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference import Cohort
from napari_plimseg.results import MaskStore, read_other_mask
from napari_plimseg.results.export import read_label_tiff
from napari_plimseg.slides import open_slide
from napari_plimseg.tissue import COLORECTAL, TissueClasses
from napari_plimseg.training_runs import RunFolder, TagTable
from plimseg_training.config import load_recipe
from plimseg_training.data import scan_folder
from plimseg_training.data.annotations import read_annotation
from plimseg_training.data.images import read_mask, read_rgb
from plimseg_training.events import read_events
from plimseg_training.loop.state import read_weights_of_run
from tests.support import slides as factory
from tests.support.masks import info_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes are no files there")


@pytest.fixture(autouse=True)
def _never_waits() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("the program waits for a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def annotated(path: Path) -> object:
    slide = factory.write_picture(path.with_name("slide.png"), factory.tissue(64, 64))
    with open_slide(slide) as opened:
        return read_annotation(path, opened, COLORECTAL)


def command(code: int, *words: str) -> Callable[[Path], object]:
    """Return a door that runs a command, which must end with this exit code."""

    def run(path: Path) -> None:
        assert main([word.replace("PATH", str(path)) for word in words]) == code
        raise PlimsegError("its exit code is right", path=path)

    return run


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "slide": ("a.svs", open_slide),
    "picture": ("a.png", open_slide),
    "classes": ("a.yaml", TissueClasses.from_yaml),
    "prompts": ("a.yaml", COLORECTAL.with_prompts_from),
    "recipe": ("a.yaml", load_recipe),
    "training image": ("a.png", read_rgb),
    "truth": ("a.png", read_mask),
    "outlines": ("a.geojson", annotated),
    "mask image": ("a.png", annotated),
    "label TIFF": ("a.ome.tif", read_label_tiff),
    "other mask": (
        "a.png",
        lambda path: read_other_mask(path, info_for(np.ones((64, 64), np.uint8))),
    ),
    "weights of a run": ("a.safetensors", read_weights_of_run),
    "info": ("a.svs", command(3, "info", "PATH")),
    "export": ("a.plimseg", command(7, "export", "PATH")),
    "model": ("a.safetensors", command(4, "segment", "a.svs", "--model", "PATH")),
    "import of a model": ("a.safetensors", command(4, "models", "import", "PATH")),
    "import of a pickle": ("a.pt", command(4, "models", "import", "PATH")),
}


def make(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"zeros": "/dev/zero", "stdin": "/dev/stdin"}[kind])


@pytest.mark.parametrize("kind", ["pipe", "zeros"])
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / FILES[name][0]
    make(kind, path)
    with pytest.raises(PlimsegError, match=path.name.replace(".", r"\.")):
        FILES[name][1](path)


def store_with(file: str, kind: str, folder: Path) -> Path:
    path = folder / "s.plimseg"
    path.mkdir()
    make(kind, path / file)
    return path


@pytest.mark.parametrize("kind", ["pipe", "zeros"])
def test_files_inside_of_folders(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PlimsegError, match=r"s\.plimseg"):
        MaskStore.open(store_with("manifest.json", kind, tmp_path))
    cohort = tmp_path / "results"
    cohort.mkdir()
    make(kind, cohort / "cohort.json")
    with pytest.raises(PlimsegError, match="results"):
        Cohort.open(cohort)
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        factory.write_picture(images / f"{number}.png", factory.tissue(64, 64))
    make(kind, images / "tags.csv")
    assert scan_folder(images).fatal
    with pytest.raises(PlimsegError, match=r"tags\.csv"):
        TagTable(images)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("progress.jsonl", "recipe.yaml", "folder.json", "history.csv"):
        make(kind, run / name)
    assert read_events(run / "progress.jsonl") == []
    RunFolder(run).status()


@pytest.mark.parametrize("kind", ["pipe", "zeros"])
def test_files_that_belong_to_slides(kind: str, tmp_path: Path) -> None:
    mirax = tmp_path / "m.mrxs"
    mirax.write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    data = tmp_path / "m"
    data.mkdir()
    (data / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_ID = 1\n[DATAFILE]\nFILE_0 = Data0.dat\n")
    make(kind, data / "Data0.dat")
    vms = tmp_path / "v.vms"
    vms.write_text("[Virtual Microscope Specimen]\nImageFile=v.jpg\nNoLayers=1\n")
    make(kind, tmp_path / "v.jpg")
    dicom = tmp_path / "d"
    dicom.mkdir()
    (dicom / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    make(kind, dicom / "b.dcm")
    for path in (mirax, vms, dicom, dicom / "a.dcm"):
        with pytest.raises(PlimsegError, match="is not a regular file"):
            open_slide(path)


def test_a_folder_of_pipes_holds_no_slides(tmp_path: Path) -> None:
    from napari_plimseg.slides import slides_in

    make("pipe", tmp_path / "a.svs")
    factory.write_picture(tmp_path / "b.png", np.zeros((32, 32, 3), np.uint8))
    with contextlib.closing(slides_in(tmp_path)) as found:
        assert [path.name for path in found] == ["b.png"]
