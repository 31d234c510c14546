"""Encoders as their authors publish them: tensors of true names, from other people's code.

With ``true_size`` they are on torch's "meta" device: they have shapes and take no memory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_plimseg.models.torchvision_compat import make_torchvision_importable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PUBMED = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
CLIP_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}


def _vit(patch: int) -> dict[str, Any]:
    return {"image_size": 224, "layers": 12, "width": 768, "patch_size": patch}


CONFIGS: dict[str, dict[str, Any]] = {
    "QuiltNet B-32": {"embed_dim": 512, "vision_cfg": _vit(32), "text_cfg": CLIP_TEXT},
    "QuiltNet B-16": {"embed_dim": 512, "vision_cfg": _vit(16), "text_cfg": CLIP_TEXT},
    "BiomedCLIP": {
        "embed_dim": 512,
        "vision_cfg": {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False,
                       "timm_pool": "", "timm_proj": "linear", "image_size": 224},
        "text_cfg": {"hf_model_name": PUBMED, "hf_tokenizer_name": PUBMED, "hf_proj_type": "mlp",
                     "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256},
    },
    "OpenAI CLIP ViT-B-16": {
        "embed_dim": 512, "quick_gelu": True, "vision_cfg": _vit(16), "text_cfg": CLIP_TEXT,
    },
    "OpenAI CLIP RN50": {
        "embed_dim": 1024, "quick_gelu": True, "text_cfg": CLIP_TEXT,
        "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
    },
}  # fmt: skip
"""`model_cfg` of the `open_clip_config.json` in the repositories of the cards, by title."""


def timm_network(name: str, *, gated: bool = False, **arguments: Any) -> Any:
    """Build a network of timm as a model page says it."""
    make_torchvision_importable()
    import timm
    from timm.layers import SwiGLUPacked

    if gated:
        arguments |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    return timm.create_model(name, num_classes=0, **arguments)


def dinov2_network(*, registers: int = 0, **sizes: Any) -> Any:
    """Build DINOv2 of transformers."""
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    if registers:
        return Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(num_register_tokens=registers, **sizes)
        )
    return Dinov2Model(Dinov2Config(**sizes))


TIMM_PAGES: dict[str, Callable[[], Any]] = {
    "UNI": lambda: timm_network("vit_large_patch16_224", img_size=224, init_values=1e-5),
    "UNI2-h": lambda: timm_network(
        "vit_giant_patch14_224", img_size=224, patch_size=14, depth=24, num_heads=24,
        init_values=1e-5, embed_dim=1536, mlp_ratio=2.66667 * 2, no_embed_class=True,
        reg_tokens=8, gated=True,
    ),
    "Virchow2": lambda: timm_network(
        "vit_huge_patch14_224", img_size=224, init_values=1e-5, mlp_ratio=5.3375, reg_tokens=4,
        gated=True,
    ),
    "Phikon-v2": lambda: dinov2_network(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=224,
        patch_size=16,
    ),
    "H-optimus-0": lambda: timm_network(
        "vit_giant_patch14_reg4_dinov2", img_size=224, init_values=1e-5
    ),
    "H-optimus-1": lambda: timm_network(
        "vit_giant_patch14_reg4_dinov2", img_size=224, init_values=1e-5
    ),
    "H0-mini": lambda: timm_network(
        "vit_base_patch14_reg4_dinov2", img_size=224, mlp_ratio=5.33334, gated=True
    ),
    "Midnight-12k": lambda: dinov2_network(
        hidden_size=1536, num_hidden_layers=40, num_attention_heads=24, image_size=518,
        patch_size=14, use_swiglu_ffn=True,
    ),
    "Hibou-B": lambda: dinov2_network(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=224,
        patch_size=14, registers=4,
    ),
    "CONCH 1.5": lambda: ConchVision(
        timm_network("vit_large_patch16_224", img_size=448, init_values=1e-6), 768
    ),
}  # fmt: skip
"""How the pages of the vision-only encoders build them, by the titles of their cards."""


class ConchVision(nn.Module):
    """The file of CONCH 1.5: a trunk, and the pooling of whole images, which maps don't need."""

    def __init__(self, trunk: Any, size: int) -> None:
        super().__init__()
        self.trunk = trunk
        pool = nn.Module()
        pool.query = nn.Parameter(torch.zeros(1, size))
        pool.ln_k, pool.ln_q = nn.LayerNorm(trunk.embed_dim), nn.LayerNorm(size)
        pool.to_q = nn.Linear(size, size, bias=False)
        pool.to_kv = nn.Linear(trunk.embed_dim, 2 * size, bias=False)
        pool.to_out = nn.Linear(size, size, bias=False)
        self.attn_pool_contrast = pool
        self.ln_contrast = nn.LayerNorm(size)


class KeepModel(nn.Module):
    """KEEP as its own code builds it, with its names.

    Parameters
    ----------
    trunk : torch.nn.Module
        Of timm.
    text : transformers.BertModel
    """

    def __init__(self, trunk: Any, text: Any) -> None:
        super().__init__()
        size = text.config.hidden_size
        self.visual = trunk
        self.visual_head = nn.Sequential(
            nn.Linear(trunk.num_features, size), nn.GELU(), nn.Linear(size, size)
        )
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(3.2))

    def published(self) -> dict[str, Tensor]:
        """Return its tensors; its layer scales have a name of its own."""
        return {k.replace(".gamma", ".weight"): v for k, v in self.state_dict().items()}


def keep_model(trunk: str = "vit_large_patch16_224", **sizes: Any) -> KeepModel:
    """Build KEEP; `sizes` are those of its BERT."""
    from transformers import BertConfig, BertModel

    built = timm_network(trunk, init_values=1e-5)
    return KeepModel(built, BertModel(BertConfig(**sizes)))


def on_meta(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Return the tensors that a network would have, without their memory."""
    with torch.device("meta"):
        network = build()
    return network.published() if isinstance(network, KeepModel) else network.state_dict()


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fat", "tissue", "stroma", "of", "a", "an",
         "image", "##s", ",", ".", "epithelium")  # fmt: skip


def write_words(folder: Path) -> None:
    """Write the tokenizer of a BERT as transformers saves it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer: Any = Tokenizer(WordPiece(words, unk_token="[UNK]"))  # type: ignore[arg-type]  # noqa: S106
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
