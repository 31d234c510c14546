from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models import library
from napari_plimseg.models.encoders.cards import bundled_folder
from napari_plimseg.models.library import HINT_MODEL_FILE, list_promptable_models
from napari_plimseg.models.loading import load_model, load_promptable_model
from napari_plimseg.models.promptable.prompt_tensors import PatchHints

SHIPPED = bundled_folder() / HINT_MODEL_FILE
PACKAGE = Path(library.__file__).parent.parent
needs_shipped = pytest.mark.skipif(
    not SHIPPED.is_file(), reason="the promptable model is not in this checkout"
)


@needs_shipped
def test_the_shipped_model_is_listed_apart_and_small() -> None:
    (info,) = list_promptable_models()
    assert (info.name, info.available) == ("bundled", True)
    assert info.license
    assert SHIPPED.stat().st_size < 25e6
    assert "hints" not in {model.name for model in library.list_models()}
    whole = sum(path.stat().st_size for path in PACKAGE.rglob("*") if path.is_file())
    assert whole < 60e6


@needs_shipped
def test_a_model_for_hints_of_the_user_s_is_no_model_to_segment_with() -> None:
    own = library.models_folder() / "glands.safetensors"
    own.parent.mkdir(parents=True)
    shutil.copy(SHIPPED, own)
    assert [info.name for info in list_promptable_models()] == ["bundled", "glands"]
    assert "glands" not in {model.name for model in library.list_models()}
    with pytest.raises(ModelError, match="points and boxes"):
        load_model("glands")
    assert load_promptable_model("glands").identity == load_promptable_model().identity


@needs_shipped
def test_a_name_that_is_not_known_says_which_are() -> None:
    with pytest.raises(ModelError, match="Known: bundled"):
        load_promptable_model("nothing")


@needs_shipped
def test_the_shipped_weights_are_named_and_keep_to_the_box() -> None:
    model = load_promptable_model()
    assert model.weights_name
    assert not any(parameter.requires_grad for parameter in model.parameters())
    side = model.side
    pixels = torch.full((1, 3, side, side), 0.9)
    pixels[:, :, 200:300, 180:300] = torch.tensor((0.45, 0.25, 0.55))[:, None, None]
    with torch.inference_mode():
        encoded = model.encode(pixels)
        found = model.decode(encoded, encoded, [PatchHints(boxes=((200, 180, 300, 300),))])
    mask = found.of_patch(side)[0, 0] > 0
    inside = mask[200:300, 180:300].float().mean()
    assert inside > 0.5  # a flat rectangle is no tissue; the ellipse in the box would be 0.79
    assert mask.sum() < 1.1 * 100 * 120
