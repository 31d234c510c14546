"""Write and read promptable models as model files of kind "hints".

By default the pretrained weights stay outside, and the file names their hash: with a SAM it holds
only the parts that WSI-SAM adds (a few megabytes), with a backbone all but the backbone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import (
    check_fit,
    check_hash,
    find_encoder,
    hash_outside,
    load_backbone,
    without_path,
)
from napari_plimseg.models.model_file import (
    ModelHeader,
    current_versions,
    open_model_file,
    save_model,
)
from napari_plimseg.models.promptable.dual_decoder import DualDecoder
from napari_plimseg.models.promptable.sam_decoder import DecoderShape
from napari_plimseg.models.promptable.sam_encoders import (
    MEAN,
    STD,
    BackboneEncoder,
    empty_encoder,
    encoder_on,
)
from napari_plimseg.models.promptable.sam_weights import load_sam
from napari_plimseg.models.promptable.wsi_sam import WsiSam
from napari_plimseg.models.weights import check_shapes
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.models.model_file import ModelFile
    from napari_plimseg.models.promptable.sam_encoders import PatchEncoder


KIND = "hints"
THE_OBJECT = TissueClasses((TissueClass("object", (230, 85, 13)),), has_background=False)


def save_hint_model(
    path: str | Path, model: WsiSam, *, title: str, frozen_inside: bool = False, **about: Any
) -> None:
    """Write a promptable model atomically, in 16 bits, after the checks of reading.

    Parameters
    ----------
    title : str
        For people.
    frozen_inside : bool
        Whether the pretrained weights go into the file too. Otherwise the file names their hash,
        and later only the same weights are accepted.
    **about
        `license`, `scores` and `training_sha256` of `ModelHeader`.

    Raises
    ------
    ModelError
        When a weight is not finite.
    """
    on_backbone = isinstance(model.encoder, BackboneEncoder)
    outside = "" if frozen_inside else hash_outside(model.source, model.weights_digest)
    header = ModelHeader(
        kind=KIND, classes=THE_OBJECT, encoder_identity=model.source_digest,
        encoder=without_path(model.source), encoder_sha256=outside,
        mpp=model.mpp, patch_size=model.side, title=title, versions=current_versions(),
        mean=(0.0, 0.0, 0.0) if on_backbone else MEAN, std=(1.0, 1.0, 1.0) if on_backbone else STD,
        network={
            "patch_encoder": model.encoder.spec(), "decoder": model.decoder.shape.to_dict(),
            "resolutions": list(model.resolutions), "frozen_inside": frozen_inside,
            "draws_hints": model.draws_hints,
        },
        **about,
    )  # fmt: skip
    wanted = set(model.state_dict()) if frozen_inside else model.own_names()
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
        if name in wanted
    }
    save_model(path, header, tensors)


def load_hint_model(path: str | Path, *, source: str | None = None) -> WsiSam:
    """Read a promptable model; nothing is built from a file that fails a check.

    Parameters
    ----------
    path : str or Path
    source : str, optional
        Where the pretrained weights are now, if they were moved since the training.

    Raises
    ------
    ModelError
        When the file is damaged, is another kind of model, or belongs to pretrained weights that
        are not on this computer.
    """
    file = open_model_file(path)
    header, network, path = file.header, file.header.network, file.path
    if header.kind != KIND:
        raise ModelError("it is not a promptable model", path=path)
    inside = network["frozen_inside"]
    try:
        shape = DecoderShape.from_dict(network["decoder"])
        place = source or header.encoder
        if not inside and source is None:
            place = find_encoder(
                header.encoder, header.encoder_sha256, header.encoder_identity, path=path
            )
        model = _whole(file, shape) if inside else _on_source(file, shape, place)
        _check_own(file, model)
    except ValueError as error:
        raise ModelError(f"its description is wrong ({error})", path=path) from error
    except ModelError as error:
        raise ModelError(error.problem, path=path, remedy=error.remedy) from error
    model.load_state_dict(file.read(), strict=False)
    model.weights_name = header.title or path.stem
    model.mpp = header.mpp
    model.draws_hints = bool(network.get("draws_hints", False))
    return model.requires_grad_(False).eval()


def _check_own(file: ModelFile, model: WsiSam) -> None:
    """Refuse tensors that are not those of the model, or of its own parts."""
    state = model.state_dict()
    names = set(state) if file.header.network["frozen_inside"] else model.own_names()
    wanted = {name: state[name] for name in names}
    check_shapes(file.table.entries, wanted, path=file.path)


def _whole(file: ModelFile, shape: DecoderShape) -> WsiSam:
    """Return a model whose weights are all in its file; not built when these are of another one."""
    header = file.header

    def build() -> WsiSam:
        return WsiSam(
            empty_encoder(header.network["patch_encoder"]),
            DualDecoder(shape, tuple(header.network["resolutions"])),
            source=header.encoder,
            source_digest=header.encoder_identity,
        )

    check_fit(file.table.entries, build)
    return build()


def _on_source(file: ModelFile, shape: DecoderShape, source: str) -> WsiSam:
    """Return the model with its pretrained weights; its own parts are loaded afterwards."""
    header, path = file.header, file.path
    resolutions = tuple(header.network["resolutions"])
    spec = dict(header.network["patch_encoder"])
    if spec.get("architecture") == "backbone":
        sizes = {n: v for n, v in spec.items() if n not in ("architecture", "backbone")}
        backbone = load_backbone(source)
        digest = backbone.identity

        def build() -> WsiSam:
            encoder = encoder_on(backbone, sizes)
            return WsiSam(
                encoder, DualDecoder(shape, resolutions), source=source, source_digest=digest
            )

        with torch.device("meta"):
            _check_own(file, build())
        model = build()
        encoder: PatchEncoder = model.encoder
    else:
        sam = load_sam(source, side=spec.get("side"))
        model = WsiSam.on_sam(sam, resolutions=resolutions, source=source)
        encoder, digest = sam.encoder, sam.digest
    check_hash(header.encoder, model.weights_digest, header.encoder_sha256, path=path)
    if digest != header.encoder_identity or encoder.spec() != header.network["patch_encoder"]:
        raise ModelError(
            "it belongs to other pretrained weights",
            path=path,
            remedy="Give the weights that it was trained with.",
        )
    if model.decoder.shape != shape:
        raise ModelError("its decoder does not match its pretrained weights", path=path)
    return model
