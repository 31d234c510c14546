"""The one door to open_clip, timm and transformers: every network of theirs is built here.

Each function takes a specification (`specs`), never a configuration, a path or a name on the hub,
and calls a constructor with its sizes. None of their functions that read files or ask the hub are
called (`from_pretrained`, `get_tokenizer`, `create_model` with a source), and everything runs
`offline`. So no file can make them run code, read another file or connect.

A network is built twice: first on torch's "meta" device, where tensors have shapes and take no
memory. Only when these are the shapes in the weight file is it built for real.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from napari_plimseg import limits
from napari_plimseg.errors import ModelError
from napari_plimseg.models.downloads import offline
from napari_plimseg.models.encoders.specs import BertText, TimmVision
from napari_plimseg.models.torchvision_compat import make_torchvision_importable
from napari_plimseg.models.weights import check_shapes, read_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_plimseg.models.encoders.specs import (
        BertSizes,
        ClipSpec,
        TimmSpec,
        TowerSpec,
        VisionSpec,
    )
    from napari_plimseg.models.weights import Described

P = ParamSpec("P")
T = TypeVar("T")
_BUILD_ERRORS = (
    RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError,
    ArithmeticError, NotImplementedError, OSError, ImportError,
)  # fmt: skip
# open_clip builds image and text tower together; one that is not needed is built this small
_SMALLEST_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def _builder(build: Callable[P, T]) -> Callable[P, T]:
    """Run a constructor offline; what it can't build is a `ModelError`."""

    @functools.wraps(build)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        make_torchvision_importable()
        try:
            with offline():
                return build(*args, **kwargs)
        except ModelError:
            raise
        except _BUILD_ERRORS as error:
            problem = str(error).splitlines()[0][:120] if str(error) else ""
            raise ModelError(
                f"no network can be built from its sizes ({type(error).__name__}: {problem})"
            ) from error

    return guarded


# -- what is checked before memory is taken


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Return the tensors that a network would have, without their memory.

    Parameters
    ----------
    build : callable
        Builds the network.

    Raises
    ------
    ModelError
        When it would be larger than the limit `model-bytes`, or can't be built.
    """
    with torch.device("meta"):
        network = build()
    size = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    limits.check(ModelError, "model-bytes", size, what="its network would take")
    return dict(network.state_dict())


def check_fit(weights: Described, build: Callable[[], nn.Module], *, path: str | Path = "") -> None:
    """Compare the names and shapes of weights with those of a network that is not built.

    Raises
    ------
    ModelError
        When it can't be built, is larger than the limit `model-bytes`, or has other tensors.
    """
    check_shapes(weights, shapes_of(build), path=path)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weight file without their values, which are not read.

    Raises
    ------
    ModelError
        When the file can't be read, or its tensors are larger than the limit `model-bytes`.
    """
    return {
        name: torch.empty(shape, device="meta") for name, (_, shape) in read_shapes(path).items()
    }


def built_for(
    build: Callable[[], T],
    path: Path,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    wanted: Mapping[str, Tensor] | None = None,
) -> T:
    """Build a network after comparing its shapes with those in a weight file.

    Parameters
    ----------
    build : callable
        Builds the network.
    path : Path
        Weights that will be loaded into it.
    translate : callable, optional
        As for `load_checked`.
    wanted : mapping, optional
        The network's tensors, from `shapes_of`, when they are known already.

    Raises
    ------
    ModelError
        When the network can't be built, is too large, or has other tensors.
    """
    try:
        if wanted is None:
            wanted = shapes_of(build)  # type: ignore[arg-type]  # then T is a network
        found = tensors_of(path)
        check_shapes(found if translate is None else translate(found), wanted, path=path)
        return build()
    except ModelError as error:
        raise (
            error if error.path else ModelError(error.problem, path=path, remedy=error.remedy)
        ) from error


# -- open_clip


@_builder
def clip_architecture(name: str) -> dict[str, Any] | None:
    """Return the configuration that comes with open_clip for a name; None when there is none."""
    import open_clip

    if name not in open_clip.list_models():
        return None
    config: dict[str, Any] = open_clip.get_model_config(name)
    return config


@_builder
def clip_network(spec: ClipSpec) -> Any:
    """Build a CLIP of open_clip."""
    import open_clip

    is_bert = isinstance(spec.text, BertText)
    network: Any = (open_clip.CustomTextCLIP if spec.custom_text else open_clip.CLIP)(
        spec.embed_dim, _vision(spec.vision),
        dict(_SMALLEST_TEXT) if is_bert else spec.text.to_dict(),
        quick_gelu=spec.quick_gelu, nonscalar_logit_scale=spec.nonscalar_logit_scale,
        init_logit_bias=0.0 if spec.has_logit_bias else None,
    )  # fmt: skip
    if isinstance(spec.text, BertText):
        network.text = BertTower(spec.text, spec.embed_dim)
        network.context_length = spec.text.context_length
        network.vocab_size = spec.text.sizes.vocab_size
    network.visual.preprocess_cfg = {"mean": spec.mean, "std": spec.std}
    return network


@_builder
def clip_tower(spec: TowerSpec) -> Any:
    """Build the image tower of a CLIP of open_clip."""
    import open_clip

    network: Any = open_clip.CLIP(
        spec.embed_dim, _vision(spec.vision), dict(_SMALLEST_TEXT),
        quick_gelu=spec.quick_gelu,
    )  # fmt: skip
    return network.visual


def _vision(vision: VisionSpec) -> dict[str, Any]:
    settings: dict[str, Any] = vision.to_dict()
    if isinstance(vision, TimmVision):
        check_timm_name(vision.timm_model_name)
        settings["timm_model_pretrained"] = False
    return settings


@_builder
def clip_tokenizer(context_length: int) -> Callable[[list[str]], Tensor]:
    """Return open_clip's own tokenizer."""
    import open_clip

    tokenize: Callable[[list[str]], Tensor] = open_clip.SimpleTokenizer(
        context_length=context_length
    )
    return tokenize


@_builder
def clip_cleaning() -> Callable[[str], str]:
    """Return how open_clip repairs a text before a tokenizer of transformers gets it."""
    from open_clip.tokenizer import get_clean_fn

    clean: Callable[[str], str] = get_clean_fn("whitespace")
    return clean


class BertTower(nn.Module):
    """A BERT of transformers with a projection, with the tensors of open_clip's `HFTextEncoder`.

    That class builds its BERT from a name on the hub or a folder; this one from known sizes.

    Parameters
    ----------
    spec : BertText
    embed_dim : int
        Of the space shared with images.
    """

    def __init__(self, spec: BertText, embed_dim: int) -> None:
        super().__init__()
        self._pooling = spec.hf_pooler_type
        self.transformer = bert_network(spec.sizes, pooled=spec.hf_pooler_type == "cls_pooler")
        width = spec.sizes.hidden_size
        if spec.hf_proj_type == "linear":
            self.proj: nn.Module = nn.Linear(width, embed_dim, bias=False)
        else:
            hidden = (width + embed_dim) // 2
            self.proj = nn.Sequential(
                nn.Linear(width, hidden, bias=False), nn.GELU(),
                nn.Linear(hidden, embed_dim, bias=False),
            )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        """Return vectors (N, D) of token ids (N, T); 0 is padding."""
        mask = (tokens != 0).long()
        found = self.transformer(input_ids=tokens, attention_mask=mask)
        states: Tensor = found.last_hidden_state  # (N, T, width)
        if self._pooling == "mean_pooler":
            pooled = (states * mask[..., None]).sum(1) / mask.sum(-1, keepdim=True)
        elif self._pooling == "cls_pooler":
            pooled = found.pooler_output
        else:
            pooled = states[:, 0]
        projected: Tensor = self.proj(pooled)
        return projected


@_builder
def bert_network(sizes: BertSizes, *, pooled: bool) -> Any:
    """Build a BERT of transformers; `pooled` adds the layer on its first token."""
    try:
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise ModelError(
            "its text tower needs the package transformers",
            remedy="Install it: pip install 'napari-plimseg[sam]'.",
        ) from error
    config = BertConfig(
        vocab_size=sizes.vocab_size, hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_hidden_layers, num_attention_heads=sizes.num_attention_heads,
        intermediate_size=sizes.intermediate_size,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=pooled)


# -- timm


def check_timm_name(name: str, path: Path | None = None) -> None:
    """Refuse what is not a name in timm's own table.

    Raises
    ------
    ModelError
        When there is no such architecture.
    """
    make_torchvision_importable()
    import timm

    if ":" in name or "/" in name or not timm.is_model(name):
        raise ModelError(f"timm has no architecture '{name[:60]}'", path=path)


@_builder
def timm_network(spec: TimmSpec) -> Any:
    """Build one of timm's networks without its classifier."""
    import timm
    from timm.layers import SwiGLUPacked

    check_timm_name(spec.name)
    arguments = dict(spec.arguments)
    if arguments.pop("gated", False):
        arguments |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    return timm.create_model(spec.name, pretrained=False, num_classes=0, **arguments)


@_builder
def timm_config(network: Any) -> Mapping[str, Any]:
    """Return timm's own `input_size`, `mean` and `std` for a network."""
    import timm

    config: Mapping[str, Any] = timm.data.resolve_model_data_config(network)
    return config


@_builder
def timm_transformer(sizes: Mapping[str, int], *, head_width: int) -> Any:
    """Build a plain vision transformer of timm from `specs.read_trunk`."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=sizes["image_size"], patch_size=sizes["patch"], embed_dim=sizes["width"],
        depth=sizes["depth"], num_heads=max(1, sizes["width"] // head_width), num_classes=0,
    )  # fmt: skip


@_builder
def tiny_vit(sizes: Mapping[str, Any]) -> Any:
    """Build timm's TinyViT without its classifier, from the sizes of `TinyVitEncoder`."""
    from timm.models.tiny_vit import TinyVit

    network: Any = TinyVit(
        embed_dims=tuple(sizes["embed_dims"]), depths=tuple(sizes["depths"]),
        num_heads=tuple(sizes["num_heads"]), window_sizes=tuple(sizes["window_sizes"]),
        num_classes=0, drop_path_rate=0.0,
    )  # fmt: skip
    network.head = nn.Identity()
    return network


# -- parts for CONCH and SAM


@_builder
def attention_pooler(width: int, context: int, *, heads: int) -> Any:
    """Build open_clip's attention pooling with one query."""
    from open_clip.transformer import AttentionalPooler

    return AttentionalPooler(width, context, n_head=heads, n_queries=1)


@_builder
def text_transformer(**sizes: int) -> Any:
    """Build open_clip's text transformer with a class token, which takes the last position."""
    from open_clip.transformer import TextTransformer

    return TextTransformer(embed_cls=True, **sizes)


@_builder
def sam_vision_encoder(sizes: Mapping[str, Any]) -> Any:
    """Build SAM's vision transformer of transformers, from the sizes of `VitEncoder`."""
    try:
        from transformers.models.sam.configuration_sam import SamVisionConfig
        from transformers.models.sam.modeling_sam import SamVisionEncoder
    except ImportError as error:
        raise ModelError(
            "SAM's vision transformers need the package transformers",
            remedy="Install it: pip install 'napari-plimseg[sam]'.",
        ) from error
    config = SamVisionConfig(**sizes)
    config._attn_implementation = "sdpa"
    return SamVisionEncoder(config)
