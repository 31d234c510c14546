"""Names of encoders, their cards, and the registry of how they are loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import cards, loading
from napari_plimseg.models.encoders.cards import (
    CARDS,
    SCHEMES,
    EncoderCard,
    EncoderName,
    NameForm,
    is_encoder_name,
    without_path,
)
from napari_plimseg.models.encoders.loading import (
    FAMILIES,
    EncoderFamily,
    empty_backbone,
    is_image_text,
    load_backbone,
    load_encoder,
    load_matcher,
    register_scheme,
)
from napari_plimseg.models.encoders.small import SmallBackbone
from napari_plimseg.models.loading import load_model


@pytest.mark.parametrize(
    ("text", "parts", "path", "shown"),
    [
        ("bundled", ("bundled", "", ""), None, "bundled"),
        ("random", ("random", "", ""), None, "random"),
        ("random:densenet121", ("random", "densenet121", ""), None, "random:densenet121"),
        ("hf-hub:org/repo", ("hf-hub", "", "org/repo"), None, "hf-hub:org/repo"),
        ("local-dir:/a=b/c", ("local-dir", "", "/a=b/c"), "/a=b/c", "local-dir"),
        (r"conch:C:\x y", ("conch", "", r"C:\x y"), r"C:\x y", "conch"),
        ("open_clip:ViT-B-16=/a=b.pt", ("open_clip", "ViT-B-16", "/a=b.pt"), "/a=b.pt",
         "open_clip:ViT-B-16"),
        ("timm:vit=x.pt", ("timm", "vit", "x.pt"), "x.pt", "timm:vit"),
        ("timm:vit", ("timm", "vit", ""), None, "timm:vit"),
        ("local-dir", ("local-dir", "", ""), None, "local-dir"),
        ("sam:/home/me/sam.pt", ("sam", "", "/home/me/sam.pt"), "/home/me/sam.pt", "sam"),
        ("small", ("small", "", ""), None, "small"),
    ],
)  # fmt: skip
def test_a_name_is_parsed_and_written_back(
    text: str, parts: tuple[str, str, str], path: str | None, shown: str
) -> None:
    name = EncoderName.parse(text)
    assert (name.scheme, name.architecture, name.place) == parts
    assert str(name) == text
    assert name.path == (None if path is None else Path(path))
    assert str(name.without_path) == without_path(text) == shown


@pytest.mark.parametrize(
    "text",
    ["", "quilt", "ftp:x", "bundled:x", "hf-hub:", "timm:=x.pt", "timm:vit=", "random:resnet",
     "small:x", "random:densenet121=x"],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_what_names_look_like(text: str) -> None:
    with pytest.raises(ModelError, match=r"not the name of an encoder.*timm:ARCHITECTURE=FILE"):
        EncoderName.parse(text)
    assert without_path(text) == text


def test_messages_leave_out_the_folders_of_a_wrong_name() -> None:
    with pytest.raises(ModelError) as caught:
        EncoderName.parse("sam2:/home/jane/Doe, John/weights.pt")
    assert "'sam2:weights.pt'" in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_a_name_checks_its_parts() -> None:
    for wrong in ({"architecture": "x"}, {"place": "x"}):
        with pytest.raises(ModelError):
            EncoderName("bundled", **wrong)
    with pytest.raises(ModelError):
        EncoderName("timm", place="x.pt")  # of which architecture?
    with pytest.raises(ModelError):
        replace(EncoderName("timm", "vit"), architecture="a=b")
    with pytest.raises(ModelError, match="does not say where"):
        _ = EncoderName("timm", "vit").weights


@pytest.mark.parametrize(
    ("text", "is_name"),
    [("bundled", True), ("hf-hub:", True), ("timm:x", True), ("timm", False), ("glands", False),
     (r"C:\models\glands.safetensors", False), ("models/a.safetensors", False)],
)  # fmt: skip
def test_names_of_encoders_and_models_are_told_apart(text: str, is_name: bool) -> None:
    assert is_encoder_name(text) == is_name


def test_every_card_can_be_loaded_by_a_row_of_the_registry() -> None:
    for card in CARDS:
        family = FAMILIES[card.name.scheme]
        assert family.backbone is not None
        # a vision-only encoder is for training
        assert family.encoder is not None or not card.reads_text
        assert (family.matcher is not None) == card.reads_text == is_image_text(str(card.name))
    assert set(FAMILIES) <= set(SCHEMES)


def test_a_card_checks_itself() -> None:
    name = EncoderName("timm", "vit_base_patch16_224")
    for wrong in ({"title": ""}, {"license": ""}, {"repository": ""}, {"needed": ()}):
        fields = {"title": "T", "license": "MIT", "repository": "o/r", "needed": (("w.pt",),)}
        EncoderCard(name, architecture="ViT", **fields)
        with pytest.raises(ValueError, match="the card of 'timm:vit_base"):
            EncoderCard(name, architecture="ViT", **(fields | wrong))


def test_refusals_list_the_schemes_of_the_registry() -> None:
    with pytest.raises(ModelError, match=r"random:densenet121.*timm:ARCHITECTURE=FILE"):
        load_backbone("nothing")
    with pytest.raises(ModelError) as caught:
        load_matcher("timm:vit=x.pt")
    assert "open_clip:ARCHITECTURE=FILE" in str(caught.value)
    assert "timm:ARCHITECTURE" not in str(caught.value)


class FlatEncoder:
    """Every place has the vector of its words' order: enough for a zero-shot map."""

    name, identity, mpp, stride, alignment, halo, logit_scale = "flat", "0", 0.5, 16, 32, 0, 10.0

    def to(self, device: torch.device) -> FlatEncoder:
        return self

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        batch, height, width, _ = images.shape
        vectors = torch.zeros(batch, 16, height // 16, width // 16)
        vectors[:, 1] = 1.0
        return vectors

    def encode_text(self, texts: Any) -> torch.Tensor:
        return torch.eye(16)[: len(texts)] if len(texts) > 1 else torch.eye(16)[:1]


def test_a_registered_scheme_is_used_like_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cards, "SCHEMES", dict(SCHEMES))
    monkeypatch.setattr(loading, "SCHEMES", cards.SCHEMES)
    monkeypatch.setattr(loading, "FAMILIES", dict(FAMILIES))
    asked: list[tuple[str, str, int]] = []

    def backbone(name: EncoderName, seed: int) -> SmallBackbone:
        asked.append((name.architecture, name.place, seed))
        return SmallBackbone()

    family = EncoderFamily(
        encoder=lambda name: FlatEncoder(), backbone=backbone, architecture="flat",
        rebuild=lambda spec: SmallBackbone(tuple(spec["channels"])),
    )  # fmt: skip
    with pytest.raises(ModelError, match="not the name of a backbone"):
        load_backbone("flat:big=w.bin")
    register_scheme(NameForm("flat", architecture="ARCHITECTURE", place="FILE"), family)
    load_backbone("flat:big=w.bin", seed=3)
    assert asked == [("big", "w.bin", 3)]
    spec = {"architecture": "flat", "channels": [16, 32, 64]}
    assert empty_backbone(spec).block_channels == (16, 32, 64)
    with pytest.raises(ModelError, match="can't be built"):
        empty_backbone({"architecture": "flat"})
    assert load_encoder("flat:big=w.bin").name == "flat"
    found = load_model("flat:big=w.bin").probabilities(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert found.shape[:2] == (1, 9)
    with pytest.raises(ModelError, match=r"image-text model.*not|not the name of an image-text"):
        load_matcher("flat:big=w.bin")
    with pytest.raises(ValueError, match="is taken"):
        register_scheme(NameForm("flat"), EncoderFamily())


def test_forms_and_families_check_themselves() -> None:
    for wrong in ({"scheme": ""}, {"scheme": "a:b"}, {"scheme": "a", "place": "DISK"}):
        with pytest.raises(ValueError):
            NameForm(**wrong)
    with pytest.raises(ValueError, match="needs a function"):
        EncoderFamily(architecture="x")


def test_cards_and_library_import_no_torch() -> None:
    code = (
        "import sys, napari_plimseg.models.encoders.cards, napari_plimseg.models.library;"
        "print('torch' in sys.modules, 'huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
