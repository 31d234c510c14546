"""A trained segmentation network as a `DenseModel`, and its model file."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.acceleration import Network
from napari_plimseg.models.class_gate import ClassGate, gated
from napari_plimseg.models.encoders import (
    check_fit,
    check_hash,
    empty_backbone,
    find_encoder,
    hash_outside,
    load_backbone,
    without_path,
)
from napari_plimseg.models.familiarity import FAMILIARITY, Familiarity, unlike_sentence
from napari_plimseg.models.model_file import (
    ModelHeader,
    current_versions,
    open_model_file,
    save_model,
)
from napari_plimseg.models.segmentation.pyramid_net import PyramidNet
from napari_plimseg.models.segmentation.seg_net import SegNet
from napari_plimseg.models.surroundings import Surroundings, surroundings_of
from napari_plimseg.models.weights import (
    SCALE_SUFFIX,
    dequantized,
    dequantized_entries,
    quantized,
    weights_digest,
)
from napari_plimseg.models.windows import WindowCache, WindowGrid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models.acceleration import Engine
    from napari_plimseg.models.encoders import Backbone
    from napari_plimseg.models.model_file import ModelFile
    from napari_plimseg.models.weights import Described
    from napari_plimseg.tissue import TissueClasses


T = TypeVar("T")
WINDOW, STEP = 320, 256
MASK_STRIDE = 4
BACKBONE, HEAD = "backbone.", "head."
SegmentationHead = SegNet | PyramidNet
DECODERS: dict[str, type[SegmentationHead]] = {"context": SegNet, "pyramid": PyramidNet}
"""Heads of segmentation networks, by the name that recipes and model files have for them."""
_RESULT_VERSION = 2


class WithStride(Protocol):
    """A head that gives one output per cell of `stride` pixels."""

    stride: int


def segmentation_head(
    decoder: str, backbone: Backbone, classes: int, width: int
) -> SegmentationHead:
    """Return a new head on a backbone.

    Parameters
    ----------
    decoder : str
        A key of `DECODERS`.
    backbone : Backbone
    classes : int
        Including background.
    width : int
        Channels of its layers.
    """
    return DECODERS[decoder](backbone.block_channels, backbone.strides, classes, width)


def decoder_of(head: SegmentationHead) -> str:
    """Return the key of a head in `DECODERS`."""
    return next(name for name, kind in DECODERS.items() if type(head) is kind)


class SegModel:
    """A backbone and a segmentation head as a model whose result is independent of the tiling.

    The network sees windows at fixed positions of the slide, as the bundled model does. Its logits
    are blended where windows overlap, interpolated to the mask's grid, and turned into
    probabilities.

    Parameters
    ----------
    backbone : Backbone
    head : SegNet or PyramidNet
        With one output per class. Both are set to evaluation mode.
    classes : TissueClasses
    name : str
        For people.
    mpp : float
        Micrometers per pixel of the training images.
    window, step : int
        Side of a window and distance of two windows, in pixels.
    gate : ClassGate, optional
        Suppresses classes that the network finds absent around a position.
    surroundings : Surroundings, optional
        Smooths the maps of each window, and decides grades of one tissue together.
    familiarity : Familiarity, optional
        What the training tissue looked like; it does not change results.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: SegmentationHead,
        classes: TissueClasses,
        *,
        name: str,
        mpp: float,
        window: int = WINDOW,
        step: int = STEP,
        gate: ClassGate | None = None,
        surroundings: Surroundings | None = None,
        familiarity: Familiarity | None = None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.mpp = mpp
        self.mask_stride = MASK_STRIDE
        self._backbone, self._head = backbone.eval(), head.eval()
        self.window = window
        self.gate, self.surroundings = gate, surroundings
        margin = surroundings.margin(mpp, head.stride) if surroundings is not None else 0
        self._grid = WindowGrid(window, head.stride, step, margin=min(margin, step))
        self._known = WindowCache()
        self.familiarity = familiarity
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        settings: list[Any] = [
            _RESULT_VERSION, backbone.spec, weights_digest(backbone), weights_digest(head),
            classes.names, classes.has_background, mpp, window, step, MASK_STRIDE,
        ]  # fmt: skip
        if gate is not None:
            settings.append(gate.to_dict())
        if surroundings is not None:
            settings.append(surroundings.to_dict())
            if margin:
                settings.append(margin)
        if not isinstance(head, SegNet):
            settings.append(decoder_of(head))
        self.identity = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._network = Network(nn.Sequential(backbone, head).eval(), window, self.identity)

    def running_on(self, engine: Engine) -> Self:
        """Return a copy that shares the weights and is computed by an engine.

        Raises
        ------
        EngineError
            When the engine can't.
        """
        other = copy.copy(self)
        other._network = self._network.on(engine)
        other._known = WindowCache()  # outputs of another engine are other numbers
        return other

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self._backbone.to(device)
        self._head.to(device)
        return self

    def without_gate(self) -> SegModel:
        """Return the same model without its gate."""
        return SegModel(
            self._backbone, self._head, self.classes, name=self.name, mpp=self.mpp,
            window=self._grid.window, step=self._grid.step, surroundings=self.surroundings,
            familiarity=self.familiarity,
        )  # fmt: skip

    def distance(self, windows: Iterable[NDArray[np.uint8]]) -> float | None:
        """Return how far windows are from the training tissue; see `Familiarity.distance`."""
        known = self.familiarity
        return None if known is None else known.distance(windows)

    def unlike(self, windows: Iterable[NDArray[np.uint8]]) -> str:
        """Return a sentence when a slide is unlike the training tissue; "" otherwise.

        Parameters
        ----------
        windows : iterable of ndarray of uint8, each (h, w, 3)
            Parts of the slide with tissue, at the model's resolution.
        """
        known, distance = self.familiarity, self.distance(windows)
        if known is None or distance is None:
            return ""
        return unlike_sentence(distance, known.limit)

    def adapted_to(self, tissue_pixels: NDArray[np.uint8]) -> Self:
        """Return self: the network is trained with varied stains."""
        return self

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return class probabilities (B, C, H / 4, W / 4) of uint8 images (B, H, W, 3)."""
        pixels = images.permute(0, 3, 1, 2)
        logits = self._grid.dense(pixels, self._logits, cache=self._known)
        size = (images.shape[1] // MASK_STRIDE, images.shape[2] // MASK_STRIDE)
        fine = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        if self.gate is not None:
            fine = gated(*fine.chunk(2, 1))
        return self._cleared(fine).softmax(1)

    def _cleared(self, logits: Tensor) -> Tensor:
        """Return logits (B, C, H / 4, W / 4) of a tile without the small pieces in its core."""
        grid, surroundings = self._grid, self.surroundings
        halo, step, margin = (side // MASK_STRIDE for side in (grid.halo, grid.step, grid.margin))
        height, width = logits.shape[2:]
        if surroundings is None or not margin or min(height, width) <= 2 * halo:
            return logits
        outer, whole = halo - margin, logits.clone()
        seen = logits[:, :, outer : height - outer, outer : width - outer]
        whole[:, :, halo : height - halo, halo : width - halo] = surroundings.cleared(
            seen, self.mpp * MASK_STRIDE, step=step, margin=margin
        )
        return whole

    def _logits(self, windows: Tensor) -> Tensor:
        """Return logits (N, C, h, w); with a gate (N, 2 C, h, w), logits first, then `seen`.

        Gate and surroundings work on windows, which are at the same positions in every tiling. The
        gate's thresholds belong to logits that are not smoothed.
        """
        found = self._network(windows)
        settled = found
        if self.surroundings is not None:
            settled = self.surroundings.settled(found, self.mpp * self._head.stride)
        if self.gate is None:
            return settled
        cells = self.gate.cells(self.mpp, self._head.stride)
        return torch.cat((settled, self.gate.seen(found, cells)), 1)


def windows_for(backbone: Backbone, head: WithStride, window: int = WINDOW) -> tuple[int, int]:
    """Return window side and step that are multiples of a network's cells, near those wanted.

    Larger windows overlap more: the step stays, because tiles of every offered size hold it whole.
    """
    cell = math.lcm(max(backbone.strides), head.stride)
    both = math.lcm(cell, MASK_STRIDE)
    return max(window // cell, 1) * cell, max(STEP // both, 1) * both


def segmentation_header(
    backbone: Backbone,
    classes: TissueClasses,
    *,
    width: int,
    decoder: str = "context",
    mpp: float,
    patch_size: int,
    backbone_inside: bool,
    window: int = WINDOW,
    step: int = STEP,
    gate: ClassGate | None = None,
    surroundings: Surroundings | None = None,
    familiarity: Familiarity | None = None,
    **about: Any,
) -> ModelHeader:
    """Return the header of a segmentation model.

    Parameters
    ----------
    width : int
        Of the head.
    decoder : str
        A key of `DECODERS`. Versions without it know "context" only and refuse the file.
    backbone_inside : bool
        Whether the backbone's weights go into the file. They have to when training has changed
        them; otherwise the file names the backbone and the hash of its weights, and later only the
        same one is accepted.
    gate : ClassGate, optional
        Versions without gates can read the file too, and suppress no class.
    surroundings : Surroundings, optional
        Versions without them can read the file too; their maps have more specks.
    familiarity : Familiarity, optional
        To be given to `save_segmentation_model` too.
    **about
        `title`, `license`, `scores` and `training_sha256` of `ModelHeader`.
    """
    mean, std = backbone.normalization
    outside = "" if backbone_inside else hash_outside(backbone.name, backbone.digest)
    return ModelHeader(
        kind="segmentation", classes=classes,
        encoder=without_path(backbone.name), encoder_sha256=outside,
        encoder_identity=backbone.identity, mpp=mpp, patch_size=patch_size, mean=mean, std=std,
        versions=current_versions(),
        network={
            "backbone": backbone.spec, "backbone_inside": backbone_inside, "width": width,
            "window": window, "step": step, **({} if gate is None else {"gate": gate.to_dict()}),
            **({} if surroundings is None else {"surroundings": surroundings.to_dict()}),
            **({} if decoder == "context" else {"decoder": decoder}),
            **({} if familiarity is None else {"familiarity": familiarity.to_dict()}),
        },
        **about,
    )  # fmt: skip


def save_segmentation_model(
    path: str | Path,
    header: ModelHeader,
    backbone: Backbone,
    head: SegmentationHead,
    *,
    eight_bits: bool = False,
    familiarity: Familiarity | None = None,
) -> None:
    """Write a segmentation model atomically, after the checks of reading.

    Weights are stored in 16 bits, and with `eight_bits` the backbone's kernels in 8.

    Raises
    ------
    ModelError
        When head, backbone and header don't match, or a weight is not finite.
    """
    path = Path(path)
    tensors = {HEAD + name: tensor.half() for name, tensor in head.state_dict().items()}
    if header.network.get("backbone_inside"):
        tensors |= tensors_of_backbone(backbone, eight_bits=eight_bits)
    if backbone.spec != header.network.get("backbone"):
        raise ModelError("its header describes another backbone", path=path)
    if familiarity is not None:
        tensors |= {FAMILIARITY + name: part for name, part in familiarity.tensors().items()}
    _check_head(header, backbone, tensors_of_part(tensors, HEAD), path)
    save_model(path, header, tensors)


def tensors_of_backbone(backbone: Backbone, *, eight_bits: bool = False) -> dict[str, Tensor]:
    """Return what a model file holds of a backbone: weights in 16 bits, or kernels in 8."""
    tensors = {}
    for name, tensor in backbone.state_dict().items():
        if eight_bits and tensor.ndim == 4:
            values, scales = quantized(tensor)
            tensors[BACKBONE + name] = values
            tensors[BACKBONE + name + SCALE_SUFFIX] = scales
        else:
            tensors[BACKBONE + name] = tensor.half() if tensor.is_floating_point() else tensor
    return tensors


def load_segmentation_model(path: str | Path, classes: TissueClasses | None = None) -> SegModel:
    """Read a segmentation model; nothing is built from a file that fails a check.

    Parameters
    ----------
    classes : TissueClasses, optional
        The file's own, with other colors.

    Raises
    ------
    ModelError
        When the file is damaged, belongs to another kind of network, or needs a backbone that is
        not on this computer.
    """
    file = open_model_file(path)
    header, network, path = file.header, file.header.network, file.path
    if header.kind != "segmentation":
        raise ModelError("it is not a segmentation model", path=path)
    backbone = backbone_of(file)
    shapes = dequantized_entries(file.table.entries, path=path)
    _check_head(header, backbone, tensors_of_part(shapes, HEAD), path)
    tensors = dequantized(file.read())
    if network["backbone_inside"]:
        backbone.load_state_dict(tensors_of_part(tensors, BACKBONE))
    head = _empty_head(header, backbone)
    head.load_state_dict(tensors_of_part(tensors, HEAD))
    return SegModel(
        backbone, head, classes or header.classes, name=header.title or path.stem, mpp=header.mpp,
        window=network["window"], step=network["step"],
        gate=ClassGate.from_dict(network["gate"]) if "gate" in network else None,
        surroundings=surroundings_of(network),
        familiarity=_familiarity(network, tensors_of_part(tensors, FAMILIARITY), path),
    )  # fmt: skip


def backbone_of(file: ModelFile) -> Backbone:
    """Return the backbone of a model file: empty when its weights are in the file, else loaded.

    Raises
    ------
    ModelError
        When the file describes an impossible one, or needs one that is not on this computer.
    """
    header, network, path = file.header, file.header.network, file.path
    if network["backbone_inside"]:
        shapes = dequantized_entries(file.table.entries, path=path)
        try:
            return empty_backbone(network["backbone"], tensors_of_part(shapes, BACKBONE))
        except ModelError as error:
            raise ModelError(error.problem, path=path, remedy=error.remedy) from error
    found = find_encoder(header.encoder, header.encoder_sha256, header.encoder_identity, path=path)
    backbone = load_backbone(found)
    check_hash(header.encoder, backbone.digest, header.encoder_sha256, path=path)
    if backbone.identity != header.encoder_identity:
        raise ModelError(
            f"it belongs to other weights of its backbone '{without_path(header.encoder)}'",
            path=path,
            remedy="Use the version of napari-plimseg that made it, or train it again.",
        )
    return backbone


def _familiarity(
    network: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> Familiarity | None:
    """Return what a file says about the training tissue."""
    if "familiarity" not in network:
        return None
    try:
        return Familiarity.from_parts(network["familiarity"], tensors)
    except ModelError as error:
        raise ModelError(error.problem, path=path, remedy=error.remedy) from error


def _empty_head(header: ModelHeader, backbone: Backbone) -> SegmentationHead:
    network, classes = header.network, len(header.classes)
    return segmentation_head(network.get("decoder", "context"), backbone, classes, network["width"])


def _check_head(
    header: ModelHeader,
    backbone: Backbone,
    found: Described,
    path: Path,
) -> None:
    """Refuse tensors that are not those of the head; it is not built for that."""
    kind = header.network.get("decoder", "context")
    if kind not in DECODERS:
        raise ModelError(
            f"its decoder '{kind[:60]}' is not known to this version",
            path=path,
            remedy="Use the version of napari-plimseg that made it, or a newer one.",
        )
    check_fit(found, lambda: _empty_head(header, backbone), path=path)
    window, step = header.network["window"], header.network["step"]
    cell = DECODERS[kind].stride_of_logits(backbone.strides)
    if window % cell or step % cell:
        raise ModelError(
            f"its windows of {window} pixels every {step} don't fit cells of {cell}", path=path
        )


def tensors_of_part(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the entries whose name has a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
