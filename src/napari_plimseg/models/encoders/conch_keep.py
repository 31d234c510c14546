"""CONCH and KEEP, image-text models whose own code is not used: both are built here from parts.

CONCH (Lu et al. 2024) is a vision transformer with attention pooling, and a text tower. Its weights
are gated and are read from a folder of the user's. The sizes of the network follow from the
tensors. Of CONCH's own package, only the tokenizer file is needed.

KEEP (Zhou et al. 2024) is UNI's vision transformer with a projection, beside PubMedBERT. Its sizes
are fixed, and the weights have to fit them.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.external import (
    attention_pooler,
    bert_network,
    built_for,
    tensors_of,
    text_transformer,
    timm_network,
    timm_transformer,
)
from napari_plimseg.models.encoders.specs import (
    BERTS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    TimmSpec,
    read_trunk,
)
from napari_plimseg.models.encoders.tokenizer_files import bert_tokenizer, conch_tokenizer
from napari_plimseg.models.encoders.vit import accept_any_size
from napari_plimseg.models.weights import load_checked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_plimseg.models.encoders.open_clip import OpenClipEncoder


WEIGHTS_FILES = ("pytorch_model.bin", "model.safetensors")
TOKENIZER_FILE = "conch_byte_level_bpe_uncased.json"
HEAD_WIDTH = 64
POOLER_HEADS = 8
PREPROCESSING = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_CAPTIONING = ("text_decoder.", "visual.attn_pool_caption.", "visual.ln_caption.")

KEEP_FILES = ("model.safetensors", "pytorch_model.bin")
KEEP_TRUNK = TimmSpec("vit_large_patch16_224", {"init_values": 1e-5}, IMAGENET_MEAN, IMAGENET_STD)
KEEP_TEXT = BERTS["microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext"]
KEEP_CONTEXT = 256
"""Tokens of a text, longer ones are cut."""
_KEEP_GAIN = re.compile(r"(visual\.blocks\.\d+\.ls[12])\.weight")


def build_trunk(sizes: Mapping[str, int]) -> Any:
    """Return a timm vision transformer of `trunk_sizes`, for images of any size."""
    trunk = timm_transformer(sizes, head_width=HEAD_WIDTH)
    accept_any_size(trunk)
    return trunk


def trunk_sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes for `build_trunk`, from the tensors of a checkpoint."""
    width, _, _, patch = tensors["visual.trunk.patch_embed.proj.weight"].shape
    cells = math.isqrt(tensors["visual.trunk.pos_embed"].shape[1] - 1)
    depth = _depth(tensors, "visual.trunk.blocks.")
    return {"image_size": cells * patch, "patch": patch, "width": width, "depth": depth}


class ConchVisual(nn.Module):
    """The image tower: trunk, attention pooling with one query, norm and projection."""

    def __init__(self, trunk: Any, embedding_size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = attention_pooler(
            embedding_size, trunk.embed_dim, heads=POOLER_HEADS
        )
        self.ln_contrast = nn.LayerNorm(embedding_size)
        self.proj_contrast = nn.Parameter(torch.zeros(embedding_size, embedding_size))
        self.image_size = trunk.patch_embed.img_size
        self.preprocess_cfg = PREPROCESSING

    def forward(self, images: Tensor) -> Tensor:
        """Return one vector per image, (B, D)."""
        pooled = self.attn_pool_contrast(self.trunk.forward_features(images))[:, 0]
        projected: Tensor = self.ln_contrast(pooled) @ self.proj_contrast
        return projected


class TwoTowers(nn.Module, ABC):
    """Image tower, text tower and scale of their cosine, with open_clip's interface.

    Attributes
    ----------
    visual, text : torch.nn.Module
    logit_scale : Parameter
    """

    visual: nn.Module
    text: Any
    logit_scale: nn.Parameter

    @abstractmethod
    def text_vectors(self, tokens: Tensor) -> Tensor:
        """Return vectors (N, D) of token ids (N, T)."""

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Return vectors (B, D) of normalized images."""
        vectors: Tensor = self.visual(images)
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Return vectors (N, D) of token ids (N, T)."""
        vectors = self.text_vectors(tokens)
        return F.normalize(vectors, dim=-1) if normalize else vectors


class ConchNetwork(TwoTowers):
    """CONCH's two towers.

    Parameters
    ----------
    tensors : mapping
        The checkpoint's; only their shapes are read here.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        embedding_size = tensors["visual.proj_contrast"].shape[0]
        self.visual = ConchVisual(build_trunk(trunk_sizes(tensors)), embedding_size)
        vocabulary, width = tensors["text.token_embedding.weight"].shape
        # the class token takes the last position
        self.text = text_transformer(
            context_length=len(tensors["text.positional_embedding"]) - 1, vocab_size=vocabulary,
            width=width, heads=max(1, width // HEAD_WIDTH),
            layers=_depth(tensors, "text.transformer.resblocks."), output_dim=embedding_size,
        )  # fmt: skip
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def text_vectors(self, tokens: Tensor) -> Tensor:
        """Return vectors (N, D) of token ids (N, T)."""
        vectors: Tensor = self.text(tokens)
        return vectors


def load_conch(folder: Path, name: str) -> OpenClipEncoder:
    """Build CONCH from its weights and tokenizer in a folder.

    Raises
    ------
    ModelError
        When a file is missing or is not CONCH's.
    """
    from napari_plimseg.models.encoders.open_clip import OpenClipEncoder

    weights = next((folder / f for f in WEIGHTS_FILES if (folder / f).is_file()), None)
    if weights is None or not (folder / TOKENIZER_FILE).is_file():
        raise ModelError(
            f"the folder lacks {WEIGHTS_FILES[0]} or {TOKENIZER_FILE}",
            path=folder,
            remedy="Put CONCH's weights and the tokenizer of its package there.",
        )
    try:
        sizes = _without_captions(tensors_of(weights))
        trunk = read_trunk(trunk_sizes(sizes), weights)
        network = built_for(lambda: ConchNetwork(sizes), weights, _without_captions)
    except (KeyError, IndexError, ValueError, AssertionError) as error:
        raise ModelError(f"its tensors are not CONCH's ({error})", path=weights) from error
    digest = load_checked(network, weights, _without_captions)
    tokenize = conch_tokenizer(
        folder / TOKENIZER_FILE, network.text.context_length, vocabulary=network.text.vocab_size
    )
    config = {"architecture": "conch", "trunk": trunk}
    return OpenClipEncoder(network, tokenize, name=name, digest=digest, config=config)


def _without_captions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_CAPTIONING)}


def _depth(tensors: Mapping[str, Tensor], prefix: str) -> int:
    found = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    return len(found)


class KeepVisual(nn.Module):
    """The image tower: a trunk of timm and a projection of its class token.

    Parameters
    ----------
    trunk : torch.nn.Module
        A vision transformer.
    embedding_size : int
        Of the space shared with texts.
    """

    def __init__(self, trunk: Any, embedding_size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(
            nn.Linear(trunk.embed_dim, embedding_size), nn.GELU(),
            nn.Linear(embedding_size, embedding_size),
        )  # fmt: skip
        self.image_size = trunk.patch_embed.img_size
        self.preprocess_cfg = {"mean": KEEP_TRUNK.mean, "std": KEEP_TRUNK.std}

    def forward(self, images: Tensor) -> Tensor:
        """Return one vector per image, (B, D)."""
        projected: Tensor = self.head(self.trunk(images))
        return projected


class KeepNetwork(TwoTowers):
    """KEEP's two towers.

    Texts are not projected: their space is that of PubMedBERT's pooled token.
    """

    def __init__(self) -> None:
        super().__init__()
        self.visual = KeepVisual(timm_network(KEEP_TRUNK), KEEP_TEXT.hidden_size)
        self.text = bert_network(KEEP_TEXT, pooled=True)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def text_vectors(self, tokens: Tensor) -> Tensor:
        """Return vectors (N, D) of token ids (N, T); 0 is padding."""
        mask = (tokens != 0).long()
        # what is padding in every text takes time and changes nothing
        used = int(mask.sum(1).max())
        found = self.text(input_ids=tokens[:, :used], attention_mask=mask[:, :used])
        vectors: Tensor = found.pooler_output
        return vectors


def load_keep(folder: Path, name: str) -> OpenClipEncoder:
    """Build KEEP from its weights and the words of its tokenizer in a folder.

    Raises
    ------
    ModelError
        When a file is missing or is not KEEP's.
    """
    from napari_plimseg.models.encoders.open_clip import OpenClipEncoder

    weights = next((folder / f for f in KEEP_FILES if (folder / f).is_file()), None)
    if weights is None:
        raise ModelError(
            f"the folder lacks {KEEP_FILES[0]}",
            path=folder,
            remedy="Put KEEP's weights and its tokenizer.json or vocab.txt there.",
        )
    tokenize = bert_tokenizer(
        folder,
        KEEP_CONTEXT,
        lowercase=KEEP_TEXT.lowercase,
        vocabulary=KEEP_TEXT.vocab_size,
        clean=str,
    )
    network = built_for(KeepNetwork, weights, _keep_names)
    digest = load_checked(network, weights, _keep_names)
    # its image tower alone is a network of timm, and model files describe it as one
    config = {
        "architecture": "timm",
        "name": KEEP_TRUNK.name,
        "arguments": dict(KEEP_TRUNK.arguments),
    }
    return OpenClipEncoder(network, tokenize, name=name, digest=digest, config=config)


def _keep_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return published tensors as `KeepNetwork` names them."""
    result = {}
    for name, tensor in tensors.items():
        if name.startswith("visual_head."):
            result[name.replace("visual_head.", "visual.head.")] = tensor
        elif name.startswith("visual."):
            # its own code calls the gains of layer scales "weight"
            known = _KEEP_GAIN.sub(r"\1.gamma", name)
            result[known.replace("visual.", "visual.trunk.", 1)] = tensor
        elif name != "text.embeddings.position_ids":
            result[name] = tensor
    return result
