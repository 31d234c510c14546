"""The model that ships: right on tiles, the same in every tiling, and honest about its identity."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.bundled import SHIPPED_IDENTITY, BundledEncoder
from napari_plimseg.models.encoders.cards import BUNDLED_WEIGHTS_FILE, CONFIG_FILE, bundled_folder
from napari_plimseg.models.library import BUNDLED_TISSUE, list_models, shipped_file
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.model_file import read_header
from napari_plimseg.models.segmentation.base import DenseModel
from napari_plimseg.tissue import COLORECTAL, TissueClass, TissueClasses
from tests.support.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TILES = DATA / "nct_crc"
OWN_WORDS = {
    "ADI": "fatty connective tissue",
    "BACK": "area without any tissue",
    "DEB": "dead tissue",
    "LYM": "aggregate of immune cells",
    "MUC": "mucus secretion",
    "MUS": "bundles of muscle",
    "NORM": "healthy colonic glands",
    "STR": "fibrous connective tissue",
    "TUM": "cancer of the colon",
}  # phrases of captions.HELD_OUT: the text adapter has never seen them
COLORECTAL_NAMES = {
    "ADI": "adipose",
    "BACK": "background",
    "DEB": "debris and necrosis",
    "LYM": "lymphocytes",
    "MUC": "mucus",
    "MUS": "muscle",
    "NORM": "normal mucosa",
    "STR": "stroma",
    "TUM": "tumour epithelium",
}


def tile(name: str) -> torch.Tensor:
    with Image.open(TILES / f"{name}.webp") as image:
        return torch.from_numpy(np.array(image.convert("RGB")))[None]  # (1, 224, 224, 3)


@pytest.fixture(scope="module")
def colorectal() -> DenseModel:
    return load_model()


def test_it_keeps_the_contract(colorectal: DenseModel) -> None:
    assert isinstance(colorectal, DenseModel)
    assert colorectal.classes is COLORECTAL
    assert colorectal.halo % colorectal.alignment == 0
    assert colorectal.alignment % colorectal.mask_stride == 0
    probabilities = colorectal.probabilities(tile("TUM").repeat(2, 1, 1, 1))
    assert probabilities.shape == (2, 9, 56, 56)
    assert probabilities.dtype == torch.float32
    assert torch.allclose(probabilities.sum(1), torch.ones(2, 56, 56), atol=1e-5)
    assert torch.allclose(probabilities[0], probabilities[1], atol=1e-5)
    assert colorectal.adapted_to(np.zeros((5, 3), np.uint8)) is colorectal


@pytest.mark.parametrize("name", sorted(COLORECTAL_NAMES))
def test_it_names_a_tile_of_each_class(colorectal: DenseModel, name: str) -> None:
    mean = colorectal.probabilities(tile(name)).mean((0, 2, 3))
    assert colorectal.classes.names[int(mean.argmax())] == COLORECTAL_NAMES[name]


def test_words_that_it_was_not_trained_on_find_their_tiles() -> None:
    classes = TissueClasses(
        tuple(TissueClass(words, (1, 2, 3)) for words in OWN_WORDS.values()), has_background=False
    )
    model = load_model("bundled", classes)
    right = [
        list(OWN_WORDS)[int(model.probabilities(tile(name)).mean((0, 2, 3)).argmax())] == name
        for name in OWN_WORDS
    ]
    assert sum(right) >= 7


def pixels_of(path: Path, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return pixels of a picture; what lies outside is white."""
    import tifffile

    whole = tifffile.imread(path)[..., :3]
    result = np.full((height, width, 3), 255, np.uint8)
    top, left = max(y, 0), max(x, 0)
    part = whole[top : y + height, left : x + width]
    result[top - y : top - y + part.shape[0], left - x : left - x + part.shape[1]] = part
    return result


def test_the_mask_does_not_depend_on_the_tile_size(
    colorectal: DenseModel, sample_path: Path
) -> None:
    halo, stride, side = colorectal.halo, colorectal.mask_stride, 512
    slide = pixels_of(sample_path, -halo, -halo, side + 2 * halo, side + 2 * halo)

    def mask(y: int, x: int, size: int) -> torch.Tensor:
        seen = slide[y : y + size + 2 * halo, x : x + size + 2 * halo]
        result = colorectal.probabilities(torch.from_numpy(seen)[None])[0].argmax(0)
        trim = halo // stride
        return result[trim : trim + size // stride, trim : trim + size // stride]

    whole = mask(0, 0, side)
    half = side // 2
    rows = [torch.cat([mask(y, x, half) for x in (0, half)], 1) for y in (0, half)]
    assert (torch.cat(rows) != whole).float().mean() <= 1e-4  # rounding may turn a tie
    assert len(whole.unique()) > 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.replaced("stroma", TissueClass("stroma", c[2].color, ("collagen",))),
        lambda c: c.replaced("stroma", TissueClass("matrix", c[2].color, c[2].prompts)),
        lambda c: c.without("muscle"),
        lambda c: c.with_class(TissueClass("vessel", (9, 9, 9))),
    ],
)
def test_other_classes_are_another_identity(colorectal: DenseModel, change: object) -> None:
    changed = load_model("bundled", change(COLORECTAL))  # type: ignore[operator]
    assert changed.identity != colorectal.identity
    assert len(changed.identity) == 64


def test_the_same_model_has_the_same_identity_in_other_colors_too(colorectal: DenseModel) -> None:
    assert load_model("bundled", COLORECTAL).identity == colorectal.identity
    recolored = COLORECTAL.replaced("stroma", replace(COLORECTAL[2], color=(1, 2, 3)))
    assert load_model("bundled", recolored).identity == colorectal.identity


def test_missing_and_damaged_weights_are_told_apart_from_other_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't be read"):
        BundledEncoder(tmp_path)
    for file in bundled_folder().iterdir():
        if file.is_file() and file.name != BUNDLED_WEIGHTS_FILE:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / BUNDLED_WEIGHTS_FILE).write_bytes(
        (bundled_folder() / BUNDLED_WEIGHTS_FILE).read_bytes()[:-1000]
    )
    with pytest.raises(ModelError, match=r"Install napari-plimseg again"):
        BundledEncoder(tmp_path)


def test_other_settings_are_another_identity(tmp_path: Path) -> None:
    for file in bundled_folder().iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / CONFIG_FILE
    same = BundledEncoder(tmp_path).identity
    assert same == BundledEncoder(bundled_folder()).identity
    config.write_text(config.read_text("utf-8").replace('"step": 256', '"step": 128'), "utf-8")
    assert BundledEncoder(tmp_path).identity != same


def test_it_is_listed_first_and_is_small() -> None:
    first = list_models()[0]
    assert (first.name, first.available, first.reason) == ("bundled", True, "")
    assert 1e6 < first.size_bytes <= 40e6
    assert first.mpp == load_model().mpp
    assert {p.suffix for p in bundled_folder().iterdir()} <= {".json", ".safetensors", ".md"}


def test_the_model_of_colorectal_tissue_is_listed_second() -> None:
    second = list_models()[1]
    assert (second.name, second.available, second.reason) == ("bundled-tissue", True, "")
    assert second.license
    header = read_header(shipped_file(BUNDLED_TISSUE))  # the list does not open it
    assert (second.title, second.license) == (header.title, header.license)
    model = load_model("bundled-tissue")
    assert model.classes.names == load_model().classes.names
    assert (second.mpp, model.mpp) == (0.5, 0.5)
    with pytest.raises(ModelError, match="made for other classes"):
        load_model("bundled-tissue", TissueClasses((TissueClass("gland", (1, 2, 3)),)))


def test_importing_the_package_and_the_list_of_models_imports_no_torch() -> None:
    code = (
        "import sys, napari_plimseg.models, napari_plimseg.models.library as c; c.list_models();"
        "print(sorted({'torch', 'open_clip', 'timm', 'qtpy', 'napari'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_changed_byte_of_the_shipped_model_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in bundled_folder().iterdir():
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.setattr("napari_plimseg.models.encoders.bundled.bundled_folder", lambda: tmp_path)
    assert BundledEncoder(tmp_path).identity == SHIPPED_IDENTITY
    weights = bytearray((tmp_path / BUNDLED_WEIGHTS_FILE).read_bytes())
    weights[-1000] ^= 1
    (tmp_path / BUNDLED_WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(ModelError, match="bundled model is damaged"):
        BundledEncoder(tmp_path)
