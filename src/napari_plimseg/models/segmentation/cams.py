"""Class activation maps (CAMs) of a class or a word, and the file that keeps a trained stage 1.

A source of CAMs gives a unit vector for every cell of an image; a `CamTarget` turns vectors into
the map of one class or word. The vectors are the slow part: cached, they answer for another word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import torch
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import (
    ImageEncoder,
    ImageTextEncoder,
    check_fit,
    hash_outside,
    load_encoder,
    load_matcher,
    without_path,
)
from napari_plimseg.models.model_file import (
    ModelHeader,
    current_versions,
    open_model_file,
    save_model,
)
from napari_plimseg.models.segmentation.cam_net import CamNet, nearest
from napari_plimseg.models.segmentation.seg_model import (
    BACKBONE,
    HEAD,
    backbone_of,
    tensors_of_backbone,
    tensors_of_part,
    windows_for,
)
from napari_plimseg.models.segmentation.zero_shot import TextEncoder, text_prototype
from napari_plimseg.models.weights import dequantized, weights_digest
from napari_plimseg.models.windows import WindowCache, WindowGrid

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from napari_plimseg.models.encoders import Backbone
    from napari_plimseg.tissue import TissueClass, TissueClasses


@dataclass(frozen=True, eq=False)
class CamTarget:
    """What a map shows, as directions in the space of a source's vectors.

    Parameters
    ----------
    directions : Tensor of float, shape (P, D)
        Unit vectors; with several, a cell counts as like the one that it is nearest to.
    scale, bias : float or None
        Turn a cosine into the log-odds of the class; without them the map is the cosine.
    """

    directions: Tensor
    scale: float | None = None
    bias: float = 0.0

    @property
    def is_probability(self) -> bool:
        """Whether values are probabilities from 0 to 1, else cosines from -1 to 1."""
        return self.scale is not None

    def values(self, vectors: Tensor) -> Tensor:
        """Return the map (h, w) of vectors (D, h, w)."""
        each = torch.einsum("dhw,pd->phw", vectors.float(), self.directions.to(vectors.device))
        cosine = each[0] if len(each) == 1 else nearest(each, 0)
        return cosine if self.scale is None else (cosine * self.scale + self.bias).sigmoid()


class CamSource(ImageEncoder, Protocol):
    """An encoder whose vectors have unit length, and what classes and words look like to it."""

    def class_target(self, tissue_class: TissueClass) -> CamTarget:
        """Return what shows a class; a ModelError says why there is no CAM of it."""

    def word_target(self, word: str) -> CamTarget:
        """Return what shows a typed word; a ModelError says why there is no CAM of it."""


class TextCams:
    """An image-text model as a source: the cosine with the text of any class or word.

    Parameters
    ----------
    name : str
        Of `load_encoder`.

    Raises
    ------
    ModelError
        When it can't be loaded, or reads no text.
    """

    def __init__(self, name: str) -> None:
        encoder = load_encoder(name)
        if not isinstance(encoder, ImageTextEncoder):
            raise ModelError(
                f"'{name}' is a vision-only encoder and has no CAM of words",
                remedy="Choose an image-text model.",
            )
        self._encoder = encoder
        self.name, self.identity = encoder.name, encoder.identity
        self.mpp, self.stride = encoder.mpp, encoder.stride
        self.alignment, self.halo = encoder.alignment, encoder.halo

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self._encoder.to(device)
        return self

    @torch.inference_mode()
    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""
        return self._encoder.dense(images)

    def class_target(self, tissue_class: TissueClass) -> CamTarget:
        """Return the text vector of a class: of its prompts, or its name."""
        return _target_of(tissue_class.texts, self._encoder)

    def word_target(self, word: str) -> CamTarget:
        """Return the text vector of a word."""
        return _target_of((word,), self._encoder)


def _target_of(texts: tuple[str, ...], encoder: TextEncoder) -> CamTarget:
    return CamTarget(text_prototype(texts, encoder)[None].float().cpu())


class StageOneCams:
    """The CAM network of stage 1 as a source: the CAMs that its pseudo masks were made of.

    Parameters
    ----------
    backbone : Backbone
    head : CamNet
        Both are set to evaluation mode.
    classes : TissueClasses
        Its CAMs are of the tissue classes, in this order.
    name : str
        For people.
    mpp : float
        Micrometers per pixel of the training images.
    window, step : int
        Side of a window and distance of two windows, in pixels.
    matcher : str
        Name of the image-text model whose texts the prototypes are.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: CamNet,
        classes: TissueClasses,
        *,
        name: str,
        mpp: float,
        window: int,
        step: int,
        matcher: str,
    ) -> None:
        self._backbone, self._head = backbone.eval(), head.eval()
        self._grid = WindowGrid(window, head.stride, step)
        self._seen = WindowCache()
        self._matcher_name = matcher
        self._texts: TextEncoder | None = None
        self.classes, self.name, self.mpp = classes, name, mpp
        self.stride = head.stride
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        self.identity = weights_digest(backbone) + weights_digest(head)

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self._backbone.to(device)
        self._head.to(device)
        return self

    @torch.inference_mode()
    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""
        pixels = images.permute(0, 3, 1, 2)
        return F.normalize(self._grid.dense(pixels, self._embedded, cache=self._seen), dim=1)

    def _embedded(self, windows: Tensor) -> Tensor:
        return self._head.embedded(self._backbone(windows)[-len(self._head.strides) :])

    @torch.inference_mode()
    def class_target(self, tissue_class: TissueClass) -> CamTarget:
        """Return the trained prototypes of a class.

        Raises
        ------
        ModelError
            When it was not trained for that class.
        """
        why_not = no_cam_of(tissue_class.name, self.classes)
        if why_not:
            raise ModelError(why_not[0], remedy=why_not[1])
        index = self.classes.names.index(tissue_class.name)
        head = self._head
        known = head.prototypes[index : index + 1] if head.bank is None else head.bank[index]
        return CamTarget(
            F.normalize(known.float(), dim=1).cpu().clone(),
            float(head.log_scale.exp()),
            float(head.bias[index]),
        )

    def word_target(self, word: str) -> CamTarget:
        """Return the text vector of a word.

        Raises
        ------
        ModelError
            When the image-text model that reads it is not on this computer.
        """
        if self._texts is None:
            self._texts = load_matcher(self._matcher_name)
        target = _target_of((word,), self._texts)
        if target.directions.shape[1] != self._head.prototypes.shape[1]:
            raise ModelError(
                f"'{self._matcher_name}' is not the text model that stage 1 was trained with",
                remedy="Choose an image-text model, or one of the classes.",
            )
        return target


def no_cam_of(name: str, classes: TissueClasses) -> tuple[str, str] | None:
    """Return why a stage 1 of `classes` has no CAM of a class, and what to do; None when it has."""
    tissue = [classes[mask_id - 1].name for mask_id in classes.tissue_ids]
    if name in tissue:
        return None
    if name in classes.names:
        return (
            f"'{name}' is where stage 1 finds no tissue class, so it has no CAM",
            "Choose another class, or an image-text model.",
        )
    return (
        f"stage 1 was not trained for '{name}'",
        f"It knows {', '.join(tissue)}. Choose one of these, or an image-text model.",
    )


def save_cam_model(
    path: str | Path,
    backbone: Backbone,
    head: CamNet,
    classes: TissueClasses,
    *,
    title: str,
    mpp: float,
    patch_size: int,
    matcher: str,
    backbone_inside: bool,
    training_sha256: str = "",
) -> None:
    """Write the CAM network of stage 1 atomically, after the checks of reading.

    Parameters
    ----------
    path : str or Path
    backbone : Backbone
    head : CamNet
    classes : TissueClasses
    title : str
        For people.
    mpp : float
        Micrometers per pixel of the training images.
    patch_size : int
        Side of the training images, in pixels.
    matcher : str
        Name of the image-text model whose texts the prototypes are.
    backbone_inside : bool
        Whether the backbone's weights go into the file. They have to when training changed them.
    training_sha256 : str
        Digest of the list of training images.

    Raises
    ------
    ModelError
        When head, backbone and classes don't match, or a weight is not finite.
    """
    window, step = windows_for(backbone, head)
    mean, std = backbone.normalization
    header = ModelHeader(
        kind="cams", classes=classes, title=title, mpp=mpp, patch_size=patch_size,
        encoder=without_path(backbone.name), encoder_identity=backbone.identity,
        encoder_sha256="" if backbone_inside else hash_outside(backbone.name, backbone.digest),
        mean=mean, std=std, versions=current_versions(), training_sha256=training_sha256,
        license="research use; as the training images and the encoder allow",
        network={
            "backbone": backbone.spec, "backbone_inside": backbone_inside, "width": head.width,
            "window": window, "step": step, "stride": head.stride, "blocks": len(head.strides),
            "learnt": 0 if head.bank is None else head.bank.shape[1],
            "matcher": without_path(matcher),
        },
    )  # fmt: skip
    tensors = {HEAD + name: tensor.float() for name, tensor in head.state_dict().items()}
    if backbone_inside:
        tensors |= tensors_of_backbone(backbone)
    save_model(Path(path), header, tensors)


def load_cam_model(path: str | Path) -> StageOneCams:
    """Read the CAM network of a stage 1; nothing is built from a file that fails a check.

    Raises
    ------
    ModelError
        When the file is damaged, of another kind, or needs a backbone that is not on this computer.
    """
    file = open_model_file(path)
    header, path = file.header, file.path
    if header.kind != "cams":
        raise ModelError("it holds no CAMs", path=path, remedy="Choose the file of a stage 1.")
    backbone = backbone_of(file)
    shape = file.table.entries[f"{HEAD}prototypes"].shape
    tissue = len(header.classes.tissue_ids)
    if len(shape) != 2 or shape[0] != tissue or not 1 <= shape[1] <= _LARGEST_VECTOR:
        raise ModelError(f"it has no prototype for each of its {tissue} classes", path=path)
    if header.network["stride"] not in _strides(backbone, header.network):
        raise ModelError("its CAMs don't fit its backbone", path=path)

    def empty() -> CamNet:
        return _empty_head(backbone, header.network, torch.zeros(*shape))

    check_fit(tensors_of_part(file.table.entries, HEAD), empty, path=path)
    tensors = dequantized(file.read())
    if header.network["backbone_inside"]:
        backbone.load_state_dict(tensors_of_part(tensors, BACKBONE))
    head = empty()
    head.load_state_dict(tensors_of_part(tensors, HEAD))
    return StageOneCams(
        backbone, head, header.classes, name=header.title or path.stem, mpp=header.mpp,
        window=header.network["window"], step=header.network["step"],
        matcher=header.network["matcher"],
    )  # fmt: skip


_LARGEST_VECTOR = 65_536


def _strides(backbone: Backbone, network: dict[str, Any] | Any) -> tuple[int, ...]:
    return backbone.strides[-network["blocks"] :]


def _empty_head(backbone: Backbone, network: Any, prototypes: Tensor) -> CamNet:
    count = network["blocks"]
    return CamNet(
        backbone.block_channels[-count:], backbone.strides[-count:], prototypes,
        network["width"], network["stride"], network["learnt"],
    )  # fmt: skip
