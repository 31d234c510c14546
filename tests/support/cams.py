"""A stage 1 in a file, and a model whose CAMs can be worked out by hand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_plimseg._widgets.generate.cam_jobs import CamModel
from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.small import fresh_small_backbone
from napari_plimseg.models.segmentation import cams
from napari_plimseg.models.segmentation.cam_net import CamNet
from napari_plimseg.models.segmentation.cams import CamTarget
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.models.encoders.base import Backbone

WORDS = CamModel("text:words", "Words model", "words")
CLASSES = TissueClasses(
    (
        TissueClass("gland", (200, 0, 0)),
        TissueClass("stroma", (0, 200, 0)),
        TissueClass("background", (240, 240, 240)),
    )
)
TEXTS = F.normalize(torch.tensor([[1.0, 0.2, 0, 0], [0, 1.0, 0, 0.3]]), dim=1)


def stage_1(learnt: int = 0) -> tuple[Backbone, CamNet]:
    torch.manual_seed(0)
    backbone = fresh_small_backbone(0)
    blocks = backbone.block_channels[-2:], backbone.strides[-2:]
    head = CamNet(*blocks, TEXTS, width=16, stride=backbone.strides[-1], learnt=learnt).eval()
    head.bias.data[:] = torch.tensor([0.5, -0.25]).view(2, 1, 1)
    return backbone, head


def saved(path: Path, learnt: int = 0) -> Path:
    backbone, head = stage_1(learnt)
    cams.save_cam_model(
        path, backbone, head, CLASSES, title="mine", mpp=0.5, patch_size=64,
        matcher="bundled", backbone_inside=True,
    )  # fmt: skip
    return path


class Colors:
    """Knows purple by its color; can be made to wait."""

    name, identity, mpp, stride, alignment, halo = "colors", "colors-1", 1.0, 16, 64, 64

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []

    def to(self, device: object) -> Colors:
        return self

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        assert threading.current_thread() is not threading.main_thread()
        assert self.gate.wait(30)
        green = torch.nn.functional.avg_pool2d(images[..., 1].float(), self.stride)
        purple = (green < 75).float()
        return torch.stack([purple, 1 - purple], 1)

    def class_target(self, tissue_class: TissueClass) -> CamTarget:
        self.asked.append(f"class {tissue_class.name}")
        return CamTarget(torch.tensor([[1.0, 0.0]]), scale=20.0, bias=-10.0)

    def word_target(self, word: str) -> CamTarget:
        self.asked.append(f"word {word}")
        if word == "unreadable":
            raise ModelError("the text model is missing", remedy="Download it.")
        return CamTarget(torch.tensor([[0.6, 0.8]]))
