"""Read SAM weights: a folder of transformers, a file of Meta's, or the hub's cache.

Names: `sam:FOLDER`, `sam:FILE` and `hf-hub:ORG/REPO`. Nothing is unpickled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ModelError
from napari_plimseg.files import sha256
from napari_plimseg.models.downloads import cached_folder, offline
from napari_plimseg.models.encoders import EncoderName, check_fit, remember
from napari_plimseg.models.promptable.sam_decoder import DecoderShape
from napari_plimseg.models.promptable.sam_encoders import (
    TinyVitEncoder,
    VitEncoder,
    tiny_vit_sizes,
    vit_sizes,
)
from napari_plimseg.models.weights import check_weights, read_weights
from napari_plimseg.reading import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_plimseg.models.promptable.sam_encoders import SamEncoder


Rules = tuple[tuple[str, str], ...]

_MLP: Rules = (
    (r"\.layers\.0\.(weight|bias)$", r".proj_in.\1"),
    (r"\.layers\.1\.(weight|bias)$", r".layers.0.\1"),
    (r"\.layers\.2\.(weight|bias)$", r".proj_out.\1"),
)
_HINTS_META: Rules = (
    (r"^pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"^point_embeddings\.", "point_embed."),
    (r"^mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"^mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"^mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"^mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"^mask_downscaling\.6\.", "mask_embed.conv3."),
)
_DECODER_META: Rules = (
    (r"^(transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^transformer\.norm_final_attn\.", "transformer.layer_norm_final_attn."),
    (r"^output_upscaling\.0\.", "upscale_conv1."),
    (r"^output_upscaling\.1\.", "upscale_layer_norm."),
    (r"^output_upscaling\.3\.", "upscale_conv2."),
)
_ADDED: Rules = (
    (r"^(hf|hq)_token\.", "token."),
    (r"^(hf_mlp|hq_mask_mlp)\.", "token_mlp."),
    (r"^embedding_encoder\.", "fusion.final."),
    (r"^compress_vit_feat\.", "fusion.early."),
    (r"^embedding_maskfeature\.", "fusion.upscaled."),
    (r"^encoder_conv1\.", "fusion.final.0."),
    (r"^encoder_norm\.", "fusion.final.1."),
    (r"^encoder_conv2\.", "fusion.final.3."),
    (r"^compress_vit_conv1\.", "fusion.early.0."),
    (r"^compress_vit_norm\.", "fusion.early.1."),
    (r"^compress_vit_conv2\.", "fusion.early.3."),
    (r"^mask_conv1\.", "fusion.upscaled.0."),
    (r"^mask_norm\.", "fusion.upscaled.1."),
    (r"^mask_conv2\.", "fusion.upscaled.3."),
)
_VIT_META: Rules = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.", "layers."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"^neck\.0\.", "neck.conv1."),
    (r"^neck\.1\.", "neck.layer_norm1."),
    (r"^neck\.2\.", "neck.conv2."),
    (r"^neck\.3\.", "neck.layer_norm2."),
)
# timm downsamples at the start of a stage, MobileSAM at the end of the previous one
_TINY_VIT: Rules = (
    (r"^patch_embed\.seq\.0\.", "network.patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "network.patch_embed.conv2."),
    (r"^layers\.0\.downsample\.", "network.stages.1.downsample."),
    (r"^layers\.1\.downsample\.", "network.stages.2.downsample."),
    (r"^layers\.2\.downsample\.", "network.stages.3.downsample."),
    (r"^layers\.", "network.stages."),
    (r"\.c\.weight$", ".conv.weight"),
)
_NOT_USED = re.compile(r"(norm_head|head)\.|.*attention_bias_idxs$")
_MLPS = re.compile(r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|token_mlp)\.")


@dataclass(frozen=True)
class SamTensors:
    """The tensors of a checkpoint by part.

    Parameters
    ----------
    encoder : mapping
        With the names of `VitEncoder.network` or of `TinyVitEncoder`.
    is_tiny : bool
        Whether the encoder is MobileSAM's.
    hint_encoder, decoder : mapping
        With the names of `HintEncoder` and of `SamDecoder`.
    added : mapping
        What SAM-HQ adds, with the names of `Branch`; empty for other SAMs.
    """

    encoder: Mapping[str, Tensor]
    is_tiny: bool
    hint_encoder: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    added: Mapping[str, Tensor]


def sorted_tensors(tensors: Mapping[str, Tensor], *, path: Path) -> SamTensors:
    """Split the tensors of a checkpoint into parts, with the names of this package.

    Raises
    ------
    ModelError
        When a part is missing, so it is not a SAM.
    """
    hints = _part(tensors, "prompt_encoder.")
    encoder = _part(tensors, "image_encoder.") or _part(tensors, "vision_encoder.")
    decoder = _part(tensors, "mask_decoder.")
    for name, part in (("image", encoder), ("prompt", hints), ("mask", decoder)):
        if not part:
            raise ModelError(
                f"it has no {name} part of a SAM",
                path=path,
                remedy="Choose a complete checkpoint of SAM, SAM-HQ or MobileSAM (not SAM 2).",
            )
    hints = _renamed(hints, _HINTS_META)
    shared = tensors.get("shared_image_embedding.positional_embedding")
    if shared is not None:  # transformers may write a tied tensor under either name
        hints.setdefault("shared_embedding.positional_embedding", shared)
    is_tiny = any(name.startswith("patch_embed.seq.") for name in encoder)
    encoder = _renamed(encoder, _TINY_VIT if is_tiny else _VIT_META)
    decoder = _renamed(_renamed(decoder, _DECODER_META), _ADDED)
    decoder = {
        (_renamed_once(name, _MLP) if _is_meta(decoder, name) else name): tensor
        for name, tensor in decoder.items()
    }
    added = {k: v for k, v in decoder.items() if k.startswith(("token.", "token_mlp.", "fusion."))}
    return SamTensors(
        {k: v for k, v in encoder.items() if not _NOT_USED.match(k)},
        is_tiny,
        hints,
        {k: v for k, v in decoder.items() if k not in added},
        added,
    )


def _is_meta(names: Iterable[str], name: str) -> bool:
    """Whether a tensor belongs to an MLP with Meta's names, which have no `proj_in`."""
    found = _MLPS.match(name)
    return found is not None and f"{found[0]}proj_in.weight" not in names


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, text in rules:
            new = re.sub(pattern, text, new)
        found[new] = tensor
    return found


def _renamed_once(name: str, rules: Rules) -> str:
    for pattern, text in rules:
        if re.search(pattern, name):
            return re.sub(pattern, text, name)
    return name


WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_FILE = "config.json"
MODEL_TYPES = ("sam", "sam_hq")
_REMEDY = "Use sam:FOLDER, sam:FILE or hf-hub:ORG/REPO."


@dataclass(frozen=True)
class SamWeights:
    """A pretrained and checked SAM.

    Parameters
    ----------
    name : str
        For people: the source without its folder.
    digest : str
        SHA-256 of the weight file.
    encoder : SamEncoder
        With its weights.
    shape : DecoderShape
        Of the decoder for these weights.
    hint_encoder, decoder, added : mapping
        As in `SamTensors`.
    """

    name: str
    digest: str
    encoder: SamEncoder
    shape: DecoderShape
    hint_encoder: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    added: Mapping[str, Tensor]


def load_sam(source: str, *, side: int | None = None) -> SamWeights:
    """Read a SAM, SAM-HQ or MobileSAM.

    Parameters
    ----------
    source : str
        `sam:FOLDER` with `config.json` and weights of transformers, `sam:FILE` with weights named
        by Meta or transformers, or `hf-hub:ORG/REPO`.
    side : int, optional
        Of the patches of a TinyViT, in pixels; 1024 when None. ViTs have a fixed one.

    Raises
    ------
    ModelError
        When it does not exist, is damaged, or is not a SAM.
    """
    place = _place(source)
    name = without_folder(source)
    heads = 8
    if place.is_dir():
        heads = _decoder_heads(place)
        found = [place / file for file in WEIGHT_FILES if (place / file).is_file()]
        if not found:
            raise ModelError(
                f"it holds no {' or '.join(WEIGHT_FILES)}",
                path=place,
                remedy="Put the whole model there, or choose a weight file.",
            )
        place = found[0]
    tensors = sorted_tensors(read_weights(place), path=place)
    try:
        if tensors.is_tiny:
            sizes = tiny_vit_sizes(tensors.encoder)
            encoder = _built(TinyVitEncoder, sizes if side is None else {**sizes, "side": side},
                             tensors.encoder)  # fmt: skip
        else:
            named = {f"network.{name}": tensor for name, tensor in tensors.encoder.items()}
            encoder = _built(VitEncoder, vit_sizes(tensors.encoder), named)
        shape = decoder_shape(tensors.decoder, encoder.early_channels, heads)
    except ModelError as error:
        raise ModelError(error.problem, path=place, remedy=error.remedy) from error
    digest = sha256(place)
    remember(EncoderName.parse(source), digest, [digest])
    return SamWeights(
        name, digest, encoder, shape, tensors.hint_encoder, tensors.decoder, tensors.added
    )


def _built(
    kind: type[TinyVitEncoder | VitEncoder],
    sizes: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> SamEncoder:
    """Return an encoder with its weights; it is not built when they are those of another one."""
    with offline():
        check_fit(tensors, lambda: kind(sizes))
        encoder = kind(sizes)
    check_weights(tensors, encoder.state_dict(), path="")
    encoder.load_state_dict(dict(tensors))
    return encoder


def _place(source: str) -> Path:
    """Return the folder or file of a SAM with this name."""
    refusal = ModelError(f"'{source}' is not the name of a SAM", remedy=_REMEDY)
    try:
        name = EncoderName.parse(source)
    except ModelError as error:
        raise refusal from error
    if name.scheme not in ("sam", "hf-hub") or not name.is_complete:
        raise refusal
    if name.path is not None:
        return name.path
    folder = cached_folder(name.place, ((CONFIG_FILE,), WEIGHT_FILES))
    if folder is None:
        raise ModelError(
            f"'{name.place}' is not on this computer",
            remedy=f"Put its {CONFIG_FILE} and {WEIGHT_FILES[0]} into a folder and use sam:FOLDER.",
        )
    return folder


def without_folder(source: str) -> str:
    """Return a source's name without its folder, which may contain a person's name."""
    name = EncoderName.parse(source)
    return str(name if name.path is None else name.at(name.path.name))


def decoder_shape(
    decoder: Mapping[str, Tensor], early_channels: int, heads: int = 8
) -> DecoderShape:
    """Return the sizes of SAM's decoder from its tensors.

    Raises
    ------
    ModelError
        When these are not the weights of SAM's decoder.
    """
    try:
        masks, width = decoder["mask_tokens.weight"].shape
        mlp_dim = decoder["transformer.layers.0.mlp.lin1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ModelError(f"these are not the weights of a SAM's decoder ({error})") from error
    blocks = [name.split(".")[2] for name in decoder if name.startswith("transformer.layers.")]
    return DecoderShape(
        early_channels=early_channels, embed_dim=width, heads=heads, depth=len(set(blocks)),
        mlp_dim=mlp_dim, more_masks=masks - 1,
    )  # fmt: skip


def _decoder_heads(folder: Path) -> int:
    """Return the number of heads of a folder's decoder, which the weights don't show."""
    path = folder / CONFIG_FILE
    content: dict[str, Any] = read_json(
        path, ModelError, limit="header-bytes",
        remedy="Put the whole model there, or choose a weight file.",
    )  # fmt: skip
    kind, decoder = content.get("model_type"), content.get("mask_decoder_config") or {}
    heads = decoder.get("num_attention_heads", 8) if isinstance(decoder, dict) else None
    if kind not in MODEL_TYPES or type(heads) is not int or not 1 <= heads <= 256:
        raise ModelError(
            f"it holds a model of type '{str(kind)[:60]}', not a SAM or SAM-HQ",
            path=folder,
            remedy=_REMEDY,
        )
    return heads
