"""CAMs of classes and words: their values, the file of stage 1, and why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.library import EntryState, list_models, models_folder
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.model_file import KINDS, read_header
from napari_plimseg.models.segmentation import cams
from napari_plimseg.tissue import TissueClass, TissueClasses
from tests.support.cams import CLASSES, saved, stage_1

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Words:
    """Reads text: "gland" is the first direction."""

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        found = torch.zeros(len(texts), 4)
        for row, text in enumerate(texts):
            found[row, 0 if "gland" in text else 2] = 1
        return found


@pytest.mark.parametrize("learnt", [0, 3])
def test_a_saved_stage_1_gives_the_cams_of_the_network(learnt: int, tmp_path: Path) -> None:
    source = cams.load_cam_model(saved(tmp_path / "cams.safetensors", learnt))
    assert (source.name, source.mpp) == ("mine", 0.5)
    backbone, head = stage_1(learnt)
    torch.manual_seed(1)
    side = source.alignment
    images = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8)
    scaled = images.permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        wanted = head(backbone(scaled)[-2:]).sigmoid()[0]
        vectors = source.dense(images)[0]
        for index, tissue_class in enumerate((CLASSES[0], CLASSES[1])):
            target = source.class_target(tissue_class)
            assert target.is_probability
            assert torch.allclose(target.values(vectors), wanted[index], atol=1e-2)


def test_a_word_is_shown_by_its_cosine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cams.load_cam_model(saved(tmp_path / "cams.safetensors"))
    monkeypatch.setattr(cams, "load_matcher", lambda name: Words())
    target = source.word_target("gland duct")
    assert not target.is_probability
    vectors = F.normalize(torch.tensor([3.0, 4, 0, 0]), dim=0).view(4, 1, 1)
    assert float(target.values(vectors)) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("background", "finds no tissue class, so it has no CAM", "another class"),
        ("fat", "was not trained for 'fat'", "It knows gland, stroma."),
    ],
)
def test_a_class_without_a_cam_says_why(
    name: str, problem: str, remedy: str, tmp_path: Path
) -> None:
    found = cams.no_cam_of(name, CLASSES)
    assert found is not None
    assert problem in found[0]
    assert remedy in found[1]
    source = cams.load_cam_model(saved(tmp_path / "cams.safetensors"))
    with pytest.raises(ModelError, match=problem):
        source.class_target(TissueClass(name, (1, 2, 3)))
    assert cams.no_cam_of("gland", CLASSES) is None


def test_a_text_model_shows_classes_by_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoder(Words):
        name, identity, mpp, stride = "words", "words-1", 0.5, 16
        alignment, halo, logit_scale = 32, 32, 10.0

        def to(self, device: object) -> Encoder:
            return self

        def dense(self, images: torch.Tensor) -> torch.Tensor:
            return torch.zeros(1, 4, 2, 2)

    monkeypatch.setattr(cams, "load_encoder", lambda name: Encoder())
    source = cams.TextCams("words")
    target = source.class_target(TissueClass("crypt", (1, 2, 3), ("gland",)))
    assert target.directions.tolist() == [[1, 0, 0, 0]]
    assert source.word_target("crypt").directions.tolist() == [[0, 0, 1, 0]]
    monkeypatch.setattr(cams, "load_encoder", lambda name: object())
    with pytest.raises(ModelError, match="vision-only"):
        cams.TextCams("vision")


def test_a_file_of_cams_makes_no_masks_and_says_so(tmp_path: Path) -> None:
    models_folder().mkdir(parents=True, exist_ok=True)
    path = saved(models_folder() / "mine.safetensors")
    assert read_header(path).kind == "cams"
    assert "cams" in KINDS
    with pytest.raises(ModelError, match="makes no masks"):
        load_model(path)
    entry = next(entry for entry in list_models() if entry.key == "mine")
    assert entry.state is EntryState.PARTIAL
    assert "Show CAM" in entry.reason


@pytest.mark.parametrize(
    ("key", "value"),
    [("stride", 3), ("width", 12), ("blocks", 0), ("learnt", -1), ("window", 1 << 20), ("step", 7)],
)
def test_impossible_sizes_are_refused(key: str, value: int, tmp_path: Path) -> None:
    header = read_header(saved(tmp_path / "cams.safetensors"))
    network = {**header.network, key: value}
    with pytest.raises(ModelError, match=r"impossible|fit"):
        type(header)(**{**vars(header), "network": network})


def test_a_head_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    backbone, head = stage_1()
    three = TissueClasses((*CLASSES, TissueClass("fat", (9, 9, 9))))
    path = tmp_path / "cams.safetensors"
    cams.save_cam_model(
        path, backbone, head, three, title="", mpp=0.5, patch_size=64, matcher="bundled",
        backbone_inside=True,
    )  # fmt: skip
    with pytest.raises(ModelError, match="3 classes"):
        cams.load_cam_model(path)
