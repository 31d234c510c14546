"""Where SAM weights come from: a folder of transformers', a file of Meta's, the hub's local copy.

Names: `sam:FOLDER`, `sam:FILE` and `hf-hub:ORG/REPO`. Nothing but tensors is ever unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ModelError
from napari_plimseg.files import sha256
from napari_plimseg.models.sam_decoder import DecoderShape
from napari_plimseg.models.sam_encoders import (
    TinyVitEncoder,
    VitEncoder,
    tiny_vit_sizes,
    vit_sizes,
)
from napari_plimseg.models.sam_names import sorted_tensors
from napari_plimseg.models.weights import check_weights, read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_plimseg.models.sam_encoders import SamEncoder

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_FILE = "config.json"
MODEL_TYPES = ("sam", "sam_hq")
_REMEDY = "Use sam:FOLDER, sam:FILE or hf-hub:ORG/REPO."


@dataclass(frozen=True)
class SamWeights:
    """A pretrained SAM, checked.

    Parameters
    ----------
    name : str
        For people: the source without the place where it lies.
    digest : str
        SHA-256 of the weight file.
    encoder : SamEncoder
        With its weights.
    shape : DecoderShape
        Of the decoder that fits.
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


def load_sam(source: str, *, allow_download: bool = False, side: int | None = None) -> SamWeights:
    """Read a SAM, SAM-HQ or MobileSAM.

    Parameters
    ----------
    source : str
        `sam:FOLDER` with `config.json` and weights of transformers', `sam:FILE` with weights under
        Meta's or transformers' names, or `hf-hub:ORG/REPO`.
    allow_download : bool
        Whether a repository that is not on this computer may be fetched.
    side : int, optional
        Of the patches of a TinyViT, in pixels; 1024 when None. Vision transformers have theirs.

    Raises
    ------
    ModelError
        When it is not there, is damaged, or is something else.
    """
    scheme, _, rest = source.partition(":")
    if scheme not in {"sam", "hf-hub"} or not rest:
        raise ModelError(f"'{source}' is not the name of a SAM", remedy=_REMEDY)
    place = Path(rest) if scheme == "sam" else _hub_folder(rest, allow_download)
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
    encoder: SamEncoder
    try:
        if tensors.is_tiny:
            sizes = tiny_vit_sizes(tensors.encoder)
            encoder = TinyVitEncoder(sizes if side is None else {**sizes, "side": side})
            network: Any = encoder
        else:
            encoder = VitEncoder(vit_sizes(tensors.encoder))
            network = encoder.network
        shape = decoder_shape(tensors.decoder, encoder.early_channels, heads)
    except ModelError as error:
        raise ModelError(error.problem, path=place, remedy=error.remedy) from error
    check_weights(tensors.encoder, network.state_dict(), path=place)
    network.load_state_dict(tensors.encoder)
    return SamWeights(
        name, sha256(place), encoder, shape, tensors.hint_encoder, tensors.decoder, tensors.added
    )


def without_folder(source: str) -> str:
    """Return a source's name without the folder where it lies, which may tell of people."""
    scheme, _, rest = source.partition(":")
    return f"sam:{Path(rest).name}" if scheme == "sam" else source


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
    """Return the heads of a folder's decoder; the rest of its configuration is in the weights."""
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        kind = content.get("model_type")
        heads = (content.get("mask_decoder_config") or {}).get("num_attention_heads", 8)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"its {CONFIG_FILE} is missing or damaged",
            path=folder,
            remedy="Put the whole model there, or choose a weight file.",
        ) from error
    if kind not in MODEL_TYPES or type(heads) is not int:
        raise ModelError(
            f"it holds a model of type '{kind}', not a SAM or SAM-HQ", path=folder, remedy=_REMEDY
        )
    return heads


def _hub_folder(repository: str, allow_download: bool) -> Path:
    """Return the local copy of a hub repository; it is fetched only when that is allowed."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    offline = not allow_download or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE"}
    try:
        folder = huggingface_hub.snapshot_download(
            repository, local_files_only=offline, allow_patterns=[CONFIG_FILE, WEIGHT_FILES[0]]
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"'{repository}' is not on this computer",
            remedy=f"Put its {CONFIG_FILE} and {WEIGHT_FILES[0]} into a folder and choose "
            "sam:FOLDER, or allow the download.",
        ) from error
    return Path(folder)
