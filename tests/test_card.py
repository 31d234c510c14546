"""The design card: what the project was asked to be, in one place.

A change that makes one of these tests fail has left what was asked for; say so, and ask first.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree  # only reads what this package wrote

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from napari_plimseg.cli import main
from napari_plimseg.slides import Slide
from tests.support.paths import ROOT
from tests.support.slides import pyramid, tissue, write_svs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 60_000
NAME = "napari-plimseg"
SAMPLE_KEY = "cmu_1_small_region"

# -- where things are


@pytest.mark.parametrize(
    "path",
    [
        "src/napari_plimseg/__init__.py",
        "src/napari_plimseg/_widgets/__init__.py",
        "training/plimseg_training/__main__.py",
        "tests/test_card.py",
        "napari.yaml",
        "pyproject.toml",
        "README.md",
    ],
)
def test_it_is_where_the_card_says(path: str) -> None:
    assert (ROOT / path).is_file()


# -- what it is made of

PACKAGES = {
    "napari": "napari",
    "magicgui": "magicgui",
    "qtpy": "qtpy",
    "torch": "torch",
    "open_clip_torch": "open_clip",
    "dask": "dask",
    "zarr": "zarr",
    "tifffile": "tifffile",
    "numpy": "numpy",
}
"""Packages of the card, and what each is imported as."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def names(requirements: list[str]) -> set[str]:
    """Return the packages that requirements name, without versions and extras."""
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {re.sub(r"[._-]+", "-", match[0]).lower() for match in found if match}


@functools.cache
def imported_at_run_time(*folders: str) -> set[str]:
    """Return the packages imported below folders; those for type hints only don't count."""
    found: set[str] = set()
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        hints = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for part in node.body
            for child in ast.walk(part)
        }
        for node in ast.walk(tree):
            if id(node) in hints:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_the_card_is_declared(package: str) -> None:
    assert names([package]) <= names(project()["project"]["dependencies"])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_the_card_is_imported_by_the_product(package: str) -> None:
    assert PACKAGES[package] in imported_at_run_time("src", "training")


def test_the_tests_use_pytest_qt() -> None:
    group = project()["dependency-groups"]["test"]
    assert "pytest-qt" in names([entry for entry in group if isinstance(entry, str)])
    users = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and "qtbot" in {a.arg for a in node.args.args}
        if path != Path(__file__)
    ]
    assert users


# -- in napari


def manifest() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "napari.yaml").read_text("utf-8"))
    return content


def test_the_manifest_has_five_docks() -> None:
    from qtpy.QtWidgets import QWidget

    parts = manifest()["contributions"]
    commands = {each["id"]: each["python_name"] for each in parts["commands"]}
    docks = {each["display_name"]: commands[each["command"]] for each in parts["widgets"]}
    assert set(docks) == {
        "PLIMSeg", "PLIMSeg Review", "PLIMSeg Models", "PLIMSeg Batch", "PLIMSeg Train",
    }  # fmt: skip
    for place in docks.values():
        module, _, name = place.partition(":")
        assert issubclass(getattr(importlib.import_module(module), name), QWidget)
    assert project()["project"]["entry-points"]["napari.manifest"] == {
        NAME: "napari_plimseg:napari.yaml"
    }


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[..., Any]) -> Iterator[Any]:
    """A real viewer on the screen; what the docks began has ended when the test has."""
    from napari_plimseg._widgets.common.background_job import stop_jobs

    yield make_napari_viewer_proxy(show=True)
    assert stop_jobs(WAIT / 1000)


@pytest.mark.gui
def test_the_dock_generates_pseudo_masks(viewer: Any, qtbot: Any) -> None:
    from qtpy.QtWidgets import QPushButton

    _, dock = viewer.window.add_plugin_dock_widget(NAME, "PLIMSeg")
    buttons = [b for b in dock.findChildren(QPushButton) if b.text() == "Generate pseudo masks"]
    assert len(buttons) == 1
    assert not buttons[0].isEnabled(), "there is no slide yet"
    viewer.open_sample(NAME, SAMPLE_KEY)
    qtbot.waitUntil(buttons[0].isEnabled, timeout=WAIT)
    assert buttons[0].isVisibleTo(dock)
    layers = len(viewer.layers)
    buttons[0].click()
    qtbot.waitUntil(lambda: len(viewer.layers) > layers, timeout=WAIT)
    masks = [layer for layer in viewer.layers if type(layer).__name__ == "Labels"]
    qtbot.waitUntil(lambda: bool(np.any(masks[0].data)), timeout=WAIT)


# -- slides

Reads = list[tuple[int, int]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Every level and number of pixels that slides are asked for, from now on."""
    counted: Reads = []
    read_level = Slide.read_level

    def counting(self: Slide, level: int, y: int, x: int, height: int, width: int) -> Any:
        counted.append((level, height * width))
        return read_level(self, level, y, x, height, width)

    monkeypatch.setattr(Slide, "read_level", counting)
    return counted


@pytest.mark.gui
def test_the_sample_slide_is_a_multiscale_dask_layer(viewer: Any, reads: Reads) -> None:
    from dask.array import Array

    (layer,) = viewer.open_sample(NAME, SAMPLE_KEY)
    assert layer.multiscale
    assert layer.rgb
    assert len(layer.data) > 1
    assert all(isinstance(level, Array) for level in layer.data)
    assert [level.shape for level in layer.data] == [(2967, 2220, 3), (1484, 1110, 3)]
    # the coarse level is computed from the only one of the file, in blocks
    assert all(pixels < 2967 * 2220 / 4 for _, pixels in reads)
    before = len(reads)
    np.asarray(layer.data[0][1000:1100, 500:700])
    assert reads[before:] == [(0, 100 * 200)], "more is read than what is looked at"


def test_opening_a_slide_reads_no_pixels(sample_path: Path, reads: Reads) -> None:
    from napari_plimseg._reader import get_reader

    open_layers = get_reader(str(sample_path))
    assert open_layers is not None
    ((levels, options, kind),) = open_layers(str(sample_path))
    assert (kind, options["multiscale"]) == ("image", True)
    assert reads == []
    np.asarray(levels[0][:10, :10])
    assert reads == [(0, 100)], "reading is not counted here"


@pytest.mark.gui
def test_showing_a_slide_with_a_pyramid_reads_no_fine_level(
    viewer: Any, reads: Reads, tmp_path: Path, qtbot: Any
) -> None:
    from napari_plimseg._widgets.viewer.camera import get_camera

    levels = pyramid(tissue(3072, 3072), 3)
    path = write_svs(tmp_path / "slide.svs", levels)
    (layer,) = viewer.open(str(path), plugin=NAME)
    assert [level.shape[:2] for level in layer.data[:3]] == [level.shape[:2] for level in levels]

    def pixels_of(level: int) -> int:
        return sum(pixels for index, pixels in reads if index == level)

    qtbot.waitUntil(lambda: pixels_of(2) > 0, timeout=WAIT)
    qtbot.wait(300)
    assert pixels_of(0) == 0, "the finest level was read to show the whole slide"
    # zoomed in, only what is in sight is read
    get_camera(viewer).center = (500, 500)
    get_camera(viewer).zoom = 4
    qtbot.waitUntil(lambda: pixels_of(0) > 0, timeout=WAIT)
    qtbot.wait(300)
    assert pixels_of(0) < 3072 * 3072 / 2


# -- results


def test_a_label_tiff_has_classes_and_pixel_size(sample_path: Path, tmp_path: Path) -> None:
    code = main(
        ["segment", str(sample_path), "--model", "bundled-tissue", "--device", "cpu", "--quiet",
         "--region", "896,608,256,256", "--tile-size", "256", "--out", str(tmp_path),
         "--format", "ome-tiff"]
    )  # fmt: skip
    assert code == 0
    with tifffile.TiffFile(next(tmp_path.glob("*.ome.tif"))) as tiff:
        mask = tiff.asarray()
        root = ElementTree.fromstring(tiff.ome_metadata or "")  # noqa: S314 - written above
        across, down = (tiff.pages[0].tags[name].value for name in ("XResolution", "YResolution"))
        assert tiff.pages[0].tags["ResolutionUnit"].value == 3, "not in centimeters"
    assert (mask.dtype, mask.shape) == (np.uint8, (742, 555))
    space = {"": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = root.find(".//Pixels", space)
    assert pixels is not None
    assert float(pixels.attrib["PhysicalSizeX"]) == float(pixels.attrib["PhysicalSizeY"]) == 1.996
    assert pixels.attrib["PhysicalSizeXUnit"] == "µm"
    for pixels_of, units in (across, down):
        assert units / pixels_of * 10_000 == pytest.approx(1.996)  # µm in a pixel
    names_of = {int(m.attrib["K"]): m.text for m in root.iterfind(".//M", space) if
                m.attrib["K"].isdigit()}  # fmt: skip
    assert names_of[0] == "not computed"
    assert (names_of[1], names_of[3], names_of[9]) == ("tumour epithelium", "stroma", "background")
    assert set(np.unique(mask)) <= set(names_of)
    assert {names_of[value] for value in np.unique(mask)} >= {"tumour epithelium", "stroma"}


# -- training


def tagged_images(folder: Path) -> Path:
    """Write eight images of four slides, dark, pale, or half of each, with a table of tags."""
    folder.mkdir()
    random = np.random.default_rng(1)
    rows = ["file,tumour,stroma,group"]
    for number, tags in enumerate(((1, 0), (0, 1), (1, 1), (1, 1)) * 2):
        pixels = np.full((64, 64, 3), (110, 60, 140) if tags[0] else (240, 190, 215))
        if tags == (1, 1):
            pixels[:, 32:] = (240, 190, 215)
        noisy = np.clip(pixels + random.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{tags[0]},{tags[1]},slide {number // 2}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.gui
@pytest.mark.slow
def test_a_training_starts_from_the_dock_on_tagged_images(
    viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    _, dock = viewer.window.add_plugin_dock_widget(NAME, "PLIMSeg Train")
    dock.choose_folder(tagged_images(tmp_path / "my images"))
    qtbot.waitUntil(lambda: not dock.state.checking, timeout=WAIT)
    dock.folder_section.mpp_edit.setText("0.5")
    dock.folder_section.mpp_edit.editingFinished.emit()
    dock.setup.efforts["quick"].setChecked(True)
    start = dock.panel.start_button
    assert start.isEnabled(), start.toolTip()
    start.click()
    try:
        # the real trainer, in a process of its own: it has taken steps
        qtbot.waitUntil(lambda: bool(dock.process.history.losses), timeout=2 * WAIT)
        assert dock.process.history.tags["tumour"] >= 3
        root = dock.process.files.root
        dock.stop()
        qtbot.waitUntil(lambda: not dock.process.state.is_alive, timeout=WAIT)
    finally:
        dock.process.kill()
    assert dock.process.state.value in {"stopped", "finished"}
    lines = (root / "progress.jsonl").read_text("utf-8").splitlines()
    steps = [event for event in map(json.loads, lines) if event["kind"] == "step"]
    assert steps[0]["stage"] == "stage1"
    assert {"loss", "tags"} <= set(steps[0]["losses"])
    recipe = yaml.safe_load((root / "recipe.yaml").read_text("utf-8"))
    assert {"ftm", "btm", "cbs"} <= set(recipe["matching"])
    assert recipe["matching"]["ftm"] > 0
    assert list((root / "stage1").glob("*.ckpt")), "nothing was saved to resume from"
