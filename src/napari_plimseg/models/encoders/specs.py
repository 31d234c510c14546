"""What a configuration of others may say: typed specifications from an allow-list.

A folder of open_clip, a `config.json` of timm or the header of a model file is written by
a stranger. Only the settings named here are read from it, each with the values that it may have.
Anything else is refused, so that nothing of a configuration reaches open_clip, timm or transformers
as it is: not a path, not a name on the hub, not an argument that nobody thought of. Sizes are
bounded too, because a configuration of a few bytes can describe a network that fills a computer.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from napari_plimseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Allowed:
    """The values that one setting may have.

    Parameters
    ----------
    low, high : float, optional
        Of a number, both inclusive.
    whole : bool
        Whether a number has to be an integer.
    choices : tuple
        Values that are accepted besides numbers: texts, `True`, `False`, `None`.
    length : int
        Of a list of such numbers; 0 for a single one.
    or_one : bool
        Whether a single number may stand for the list.
    pattern : str
        That a text has to match as a whole.
    """

    low: float | None = None
    high: float | None = None
    whole: bool = True
    choices: tuple[object, ...] = ()
    length: int = 0
    or_one: bool = False
    pattern: str = ""

    def accepts(self, value: object) -> bool:
        """Whether a setting may have this value."""
        if self.length and isinstance(value, list | tuple):
            return len(value) == self.length and all(self._is_number(v) for v in value)
        if (self.or_one or not self.length) and self._is_number(value):
            return True
        if self.pattern and isinstance(value, str) and len(value) <= _LONGEST_NAME:
            return re.fullmatch(self.pattern, value) is not None
        # by type too: 1 == True, and a number is no switch
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def _is_number(self, value: object) -> bool:
        if self.low is None or self.high is None or isinstance(value, bool):
            return False
        kinds = int if self.whole else int | float
        return isinstance(value, kinds) and self.low <= value <= self.high


_LONGEST_NAME = 128
_TIMM_NAME = r"[a-z0-9][a-z0-9_]*(\.[a-z0-9_]+)?"
"""A name in timm's own table. A colon or slash would make timm read a folder or ask the hub."""
_SWITCH = Allowed(choices=(True, False))
_NO_TEXT = Allowed(choices=(None, ""))
_OFF = Allowed(choices=(False, None))
_RATE = Allowed(0, 1, whole=False, choices=(None,))
_UNUSED_NUMBER = Allowed(0, 1e6, whole=False, choices=(None,))
_IMAGE_SIDE = Allowed(16, 4096)
_LARGEST_DEPTH, _LARGEST_WIDTH = 128, 8192
MEAN_RANGE, STD_RANGE = Allowed(-10, 10, whole=False, length=3), Allowed(1e-6, 10, False, length=3)
"""RGB in [0, 1] is normalized with three of each."""


def refused(key: str, problem: str, path: Path | None) -> ModelError:
    """Return the error for a setting that is not accepted."""
    return ModelError(
        f"its setting '{key[:60]}' {problem}",
        path=path,
        remedy="Only settings of known architectures are read; nothing else of a file is used.",
    )


def check_settings(
    content: object,
    allowed: Mapping[str, Allowed],
    *,
    inside: str = "",
    path: Path | None = None,
    needed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return settings after comparing each with what is allowed.

    Parameters
    ----------
    content : object
        From JSON.
    allowed : mapping
        The known settings.
    inside : str
        Where the settings are, for messages: "vision_cfg".
    path : Path, optional
        Of the file, for messages.
    needed : sequence of str
        Settings that can't be left out.

    Raises
    ------
    ModelError
        For anything else than a table of known settings with possible values.
    """
    dot = f"{inside}." if inside else ""
    if not isinstance(content, dict):
        raise refused(inside or "configuration", "is not a table of settings", path)
    for key, value in content.items():
        rule = allowed.get(key) if isinstance(key, str) else None
        if rule is None:
            raise refused(f"{dot}{key}", "is not known", path)
        if not rule.accepts(value):
            raise refused(f"{dot}{key}", f"can't be {_shown(value)}", path)
    for key in needed:
        if key not in content:
            raise refused(f"{dot}{key}", "is missing", path)
    return dict(content)


def _shown(value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return f"a {'table' if isinstance(value, dict) else 'list'} like this"
    if isinstance(value, str) and ("/" in value or "\\" in value):
        return "a place"  # messages hold no paths
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _setting(rule: Allowed, default: Any = dataclasses.MISSING) -> Any:
    return field(default=default, metadata={"allowed": rule})


@dataclass(frozen=True)
class Settings:
    """Base of the specifications: each field has its `Allowed`, and is checked against it."""

    UNUSED: ClassVar[dict[str, Allowed]] = {}
    """Settings that are accepted and change nothing: those of training, or defaults."""
    PLACE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, rule in self.allowed().items():
            if not rule.accepts(getattr(self, name)):
                raise refused(
                    f"{self.PLACE}.{name}", f"can't be {_shown(getattr(self, name))}", None
                )

    @classmethod
    def allowed(cls) -> dict[str, Allowed]:
        """Return what each field may be."""
        return {f.name: f.metadata["allowed"] for f in dataclasses.fields(cls)}

    @classmethod
    def from_dict(cls, content: object, path: Path | None = None) -> Self:
        """Read settings from JSON.

        Raises
        ------
        ModelError
            For unknown settings and impossible values.
        """
        fields = cls.allowed()
        needed = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        known = check_settings(
            content, {**fields, **cls.UNUSED}, inside=cls.PLACE, path=path, needed=needed
        )
        try:
            return cls(**{key: value for key, value in known.items() if key in fields})
        except ModelError as error:
            raise ModelError(error.problem, path=path, remedy=error.remedy) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as open_clip takes them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class TransformerVision(Settings):
    """Open_clip's own vision transformer, without the variants that have no dense vectors."""

    PLACE: ClassVar[str] = "vision_cfg"
    UNUSED: ClassVar[dict[str, Allowed]] = {
        "patch_dropout": _RATE, "attn_pooler_queries": _UNUSED_NUMBER,
        "attn_pooler_heads": _UNUSED_NUMBER, "block_type": Allowed(choices=(None, "default")),
        **dict.fromkeys(
            ("attentional_pool", "output_tokens", "qk_norm", "scaled_cosine_attn", "scale_heads",
             "scale_attn_inner", "scale_attn", "scale_fc"), _OFF,
        ),
        "timm_model_name": Allowed(choices=(None,)), "timm_model_pretrained": _SWITCH,
        "timm_pool": Allowed(pattern="[a-z_]*"), "timm_proj": Allowed(pattern="[a-z_]*"),
        "timm_proj_bias": _SWITCH, "timm_drop": _RATE, "timm_drop_path": _RATE,
    }  # fmt: skip

    layers: int = _setting(Allowed(1, _LARGEST_DEPTH), 12)
    width: int = _setting(Allowed(8, _LARGEST_WIDTH), 768)
    head_width: int = _setting(Allowed(1, 1024), 64)
    mlp_ratio: float = _setting(Allowed(0.25, 16, whole=False), 4.0)
    patch_size: int = _setting(Allowed(2, 128), 16)
    image_size: int = _setting(_IMAGE_SIDE, 224)
    ls_init_value: float | None = _setting(Allowed(0, 10, whole=False, choices=(None,)), None)
    no_ln_pre: bool = _setting(_SWITCH, False)
    pos_embed_type: str = _setting(Allowed(choices=("learnable", "sin_cos_2d")), "learnable")
    final_ln_after_pool: bool = _setting(_SWITCH, False)
    pool_type: str = _setting(Allowed(choices=("tok", "avg")), "tok")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.head_width or self.image_size < self.patch_size:
            raise refused("vision_cfg.head_width", f"does not divide {self.width}", None)


@dataclass(frozen=True)
class ResNetVision(Settings):
    """Open_clip's `ModifiedResNet`, the ResNet of CLIP."""

    PLACE: ClassVar[str] = "vision_cfg"
    UNUSED: ClassVar[dict[str, Allowed]] = {
        **TransformerVision.UNUSED,
        "patch_size": _UNUSED_NUMBER, "mlp_ratio": _UNUSED_NUMBER,
    }  # fmt: skip

    layers: tuple[int, ...] = _setting(Allowed(1, 64, length=4))
    width: int = _setting(Allowed(4, 512), 64)
    head_width: int = _setting(Allowed(1, 1024), 64)
    image_size: int = _setting(Allowed(32, 4096), 224)

    def __post_init__(self) -> None:
        super().__post_init__()
        heads = self.width * 32 // self.head_width
        if heads < 1 or (self.width * 32) % heads:
            raise refused("vision_cfg.head_width", f"does not divide {self.width * 32}", None)


@dataclass(frozen=True)
class TimmVision(Settings):
    """A network of timm as the image tower of a CLIP."""

    PLACE: ClassVar[str] = "vision_cfg"
    UNUSED: ClassVar[dict[str, Allowed]] = {
        # its weights are always those of the file beside it
        "timm_model_pretrained": _SWITCH, "timm_drop": _RATE, "timm_drop_path": _RATE,
        "patch_dropout": _RATE, "layers": _UNUSED_NUMBER, "width": _UNUSED_NUMBER,
        "head_width": _UNUSED_NUMBER, "patch_size": _UNUSED_NUMBER, "mlp_ratio": _UNUSED_NUMBER,
        "output_tokens": _OFF, "attentional_pool": _OFF,
    }  # fmt: skip

    timm_model_name: str = _setting(Allowed(pattern=_TIMM_NAME))
    timm_pool: str = _setting(Allowed(choices=("", "avg", "token", "map")), "avg")
    timm_proj: str = _setting(Allowed(choices=("", "linear", "mlp", "none")), "linear")
    timm_proj_bias: bool = _setting(_SWITCH, False)
    image_size: int = _setting(_IMAGE_SIDE, 224)


VisionSpec = TransformerVision | ResNetVision | TimmVision

CLIP_VOCABULARY = 49408
"""Tokens of open_clip's own tokenizer; a smaller table would end in an index error."""


@dataclass(frozen=True)
class TransformerText(Settings):
    """Open_clip's own text transformer, with open_clip's own tokenizer."""

    PLACE: ClassVar[str] = "text_cfg"
    UNUSED: ClassVar[dict[str, Allowed]] = {
        "hf_tokenizer_name": _NO_TEXT, "tokenizer_mode": _NO_TEXT, "hf_model_name": _NO_TEXT,
        "tokenizer_kwargs": Allowed(choices=(None, {})),
        "hf_model_pretrained": _SWITCH, "hf_proj_type": Allowed(choices=("mlp", "linear", None)),
        "hf_pooler_type": Allowed(pattern="[a-z_]*"),
        "act_kwargs": Allowed(choices=(None, {})), "norm_kwargs": Allowed(choices=(None, {})),
        "block_type": Allowed(choices=(None, "default")),
        **dict.fromkeys(
            ("embed_cls", "output_tokens", "qk_norm", "scaled_cosine_attn", "scale_heads",
             "scale_attn_inner", "scale_attn", "scale_fc"), _OFF,
        ),
    }  # fmt: skip

    context_length: int = _setting(Allowed(4, 4096), 77)
    vocab_size: int = _setting(Allowed(CLIP_VOCABULARY, 1 << 19), CLIP_VOCABULARY)
    width: int = _setting(Allowed(8, _LARGEST_WIDTH), 512)
    heads: int = _setting(Allowed(1, 256), 8)
    layers: int = _setting(Allowed(1, _LARGEST_DEPTH), 12)
    mlp_ratio: float = _setting(Allowed(0.25, 16, whole=False), 4.0)
    ls_init_value: float | None = _setting(Allowed(0, 10, whole=False, choices=(None,)), None)
    pad_id: int = _setting(Allowed(0, CLIP_VOCABULARY - 1), 0)
    eos_id: int = _setting(Allowed(0, CLIP_VOCABULARY - 1), 2)
    no_causal_mask: bool = _setting(_SWITCH, False)
    final_ln_after_pool: bool = _setting(_SWITCH, False)
    pool_type: str = _setting(Allowed(choices=("argmax", "first", "last", "eos")), "argmax")
    proj_bias: bool = _setting(_SWITCH, False)
    proj_type: str = _setting(Allowed(choices=("linear", "none")), "linear")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise refused("text_cfg.heads", f"does not divide {self.width}", None)


@dataclass(frozen=True)
class BertSizes:
    """The sizes of a BERT, for `transformers.BertConfig`.

    Parameters
    ----------
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        As transformers names them.
    lowercase : bool
        Whether its tokenizer ignores letter case.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    lowercase: bool = True


BERTS: dict[str, BertSizes] = {
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": BertSizes(),
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": BertSizes(),
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract": BertSizes(),
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext": BertSizes(),
    "bert-base-uncased": BertSizes(),
    "google-bert/bert-base-uncased": BertSizes(),
    "bert-base-cased": BertSizes(vocab_size=28996, lowercase=False),
    "google-bert/bert-base-cased": BertSizes(vocab_size=28996, lowercase=False),
    "emilyalsentzer/Bio_ClinicalBERT": BertSizes(vocab_size=28996, lowercase=False),
    "bert-large-uncased": BertSizes(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
}
"""The known text towers of transformers. Their names are keys of this table and nothing else: no
name is ever looked up on the hub."""


class _OneOfBerts(Allowed):
    """A name in `BERTS`, which tests extend."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value in BERTS


@dataclass(frozen=True)
class BertText(Settings):
    """A BERT as the text tower, as in BiomedCLIP; its tokenizer is made from the folder's words."""

    PLACE: ClassVar[str] = "text_cfg"
    UNUSED: ClassVar[dict[str, Allowed]] = {
        "hf_tokenizer_name": _OneOfBerts(), "hf_model_pretrained": _SWITCH,
        "tokenizer_kwargs": Allowed(choices=(None, {})), "tokenizer_mode": _NO_TEXT,
        "output_tokens": _OFF, "vocab_size": _UNUSED_NUMBER, "width": _UNUSED_NUMBER,
        "heads": _UNUSED_NUMBER, "layers": _UNUSED_NUMBER,
    }  # fmt: skip

    hf_model_name: str = _setting(_OneOfBerts())
    hf_proj_type: str = _setting(Allowed(choices=("linear", "mlp")), "mlp")
    hf_pooler_type: str = _setting(
        Allowed(choices=("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")),
        "mean_pooler",
    )
    context_length: int = _setting(Allowed(4, 512), 77)

    @property
    def sizes(self) -> BertSizes:
        """The sizes of the network."""
        return BERTS[self.hf_model_name]


TextSpec = TransformerText | BertText

_OPENAI_MEAN, _OPENAI_STD = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
_PREPROCESSING = {
    "mean": dataclasses.replace(MEAN_RANGE, choices=(None,)),
    "std": dataclasses.replace(STD_RANGE, choices=(None,)),
    # read by open_clip only; windows of a slide are neither resized nor padded
    "size": Allowed(1, 1 << 16, choices=(None,), length=2, or_one=True),
    "mode": Allowed(choices=("RGB", None)),
    "interpolation": Allowed(pattern="[a-z]*", choices=(None,)),
    "resize_mode": Allowed(pattern="[a-z]*", choices=(None,)),
    "fill_color": Allowed(0, 255, choices=(None,)),
}  # fmt: skip
_CLIP_KEYS = {
    "embed_dim": Allowed(1, _LARGEST_WIDTH),
    "quick_gelu": Allowed(choices=(True, False, None)),
    "custom_text": _SWITCH,
    "init_logit_scale": _UNUSED_NUMBER,
    "init_logit_bias": Allowed(-1000, 1000, whole=False, choices=(None,)),
    "nonscalar_logit_scale": _SWITCH,
}


@dataclass(frozen=True)
class ClipSpec:
    """Everything that an open_clip model is built from.

    Parameters
    ----------
    embed_dim : int
        Dimension of the space shared by images and texts.
    vision : TransformerVision, ResNetVision or TimmVision
    text : TransformerText or BertText
    quick_gelu : bool
        The activation of OpenAI's own models.
    custom_text : bool
        Whether the text tower is a module of its own (`CustomTextCLIP`).
    has_logit_bias : bool
        Whether there is a bias beside the scale of cosines.
    nonscalar_logit_scale : bool
        Whether the scale is stored as a vector of one value.
    mean, std : tuple of float
        Normalization of RGB in [0, 1].
    given : dict
        `vision_cfg` as the file has it. Identities of backbones are digests of it, so those of
        earlier versions stay valid only if it stays the same to the letter.
    """

    embed_dim: int
    vision: VisionSpec
    text: TextSpec
    quick_gelu: bool = False
    custom_text: bool = False
    has_logit_bias: bool = False
    nonscalar_logit_scale: bool = False
    mean: tuple[float, ...] = _OPENAI_MEAN
    std: tuple[float, ...] = _OPENAI_STD
    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if not _PREPROCESSING[name].accepts(getattr(self, name)):
                raise refused(f"preprocess_cfg.{name}", "has to be three numbers", None)
        if not _CLIP_KEYS["embed_dim"].accepts(self.embed_dim):
            raise refused("embed_dim", f"can't be {_shown(self.embed_dim)}", None)

    @classmethod
    def from_config(
        cls, model: object, preprocessing: object = None, path: Path | None = None
    ) -> ClipSpec:
        """Read open_clip's `model_cfg` and `preprocess_cfg`.

        Raises
        ------
        ModelError
            For unknown settings and impossible values; names file and setting.
        """
        if not isinstance(model, dict):
            raise ModelError("is not an open_clip configuration", path=path)
        towers = ("vision_cfg", "text_cfg")
        rest = check_settings(
            {key: value for key, value in model.items() if key not in towers}, _CLIP_KEYS,
            path=path, needed=("embed_dim",),
        )  # fmt: skip
        vision, text = (model.get(tower) for tower in towers)
        images = check_settings(
            {} if preprocessing is None else preprocessing, _PREPROCESSING,
            inside="preprocess_cfg", path=path,
        )  # fmt: skip
        colors = {
            name: tuple(images[name]) for name in ("mean", "std") if images.get(name) is not None
        }
        built_text = read_text(text, path)
        return cls(
            embed_dim=rest["embed_dim"], vision=read_vision(vision, path), text=built_text,
            quick_gelu=bool(rest.get("quick_gelu")),
            custom_text=rest.get("custom_text", False) or isinstance(built_text, BertText),
            has_logit_bias=rest.get("init_logit_bias") is not None,
            nonscalar_logit_scale=rest.get("nonscalar_logit_scale", False),
            given=dict(vision) if isinstance(vision, dict) else {}, **colors,
        )  # fmt: skip


def read_vision(content: object, path: Path | None = None) -> VisionSpec:
    """Read open_clip's `vision_cfg`.

    Raises
    ------
    ModelError
        For unknown settings and impossible values.
    """
    kind: type[TransformerVision | ResNetVision | TimmVision] = TransformerVision
    if isinstance(content, dict) and content.get("timm_model_name"):
        kind = TimmVision
    elif isinstance(content, dict) and isinstance(content.get("layers"), list):
        kind = ResNetVision
    return kind.from_dict(content, path)


def read_text(content: object, path: Path | None = None) -> TextSpec:
    """Read open_clip's `text_cfg`.

    Raises
    ------
    ModelError
        For unknown settings and impossible values.
    """
    if isinstance(content, dict) and content.get("hf_model_name"):
        return BertText.from_dict(content, path)
    return TransformerText.from_dict(content, path)


_TIMM_ARGUMENTS = {
    "init_values": Allowed(0, 10, whole=False),
    "reg_tokens": Allowed(0, 64),
    "img_size": _IMAGE_SIDE,
    "no_embed_class": _SWITCH,
    "mlp_ratio": Allowed(0.25, 16, whole=False),
    "gated": _SWITCH,
    "depth": Allowed(1, _LARGEST_DEPTH),
}
_TRUNK = {
    "image_size": _IMAGE_SIDE, "patch": Allowed(2, 128), "width": Allowed(8, _LARGEST_WIDTH),
    "depth": Allowed(1, _LARGEST_DEPTH),
}  # fmt: skip


@dataclass(frozen=True)
class TimmSpec:
    """Everything that one of timm's networks is built from.

    Parameters
    ----------
    name : str
        In timm's own table of architectures.
    arguments : dict
        Those that follow from the shapes of weights: `init_values`, `reg_tokens`, `img_size`,
        `no_embed_class`, `mlp_ratio` and `gated` (`SwiGLUPacked` with SiLU); and `depth`, the
        number of blocks, of a row of `TIMM_VARIANTS`.
    mean, std : tuple of float, optional
        Normalization of RGB in [0, 1]; timm's own for the name when None.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not Allowed(pattern=_TIMM_NAME).accepts(self.name):
            raise ModelError(f"timm has no architecture '{str(self.name)[:60]}'")
        check_settings(self.arguments, _TIMM_ARGUMENTS, inside="arguments")
        for name, rule in (("mean", MEAN_RANGE), ("std", STD_RANGE)):
            value = getattr(self, name)
            if value is not None and not rule.accepts(value):
                raise refused(name, "has to be three numbers", None)

    @classmethod
    def from_dict(cls, content: object) -> TimmSpec:
        """Read the `spec` of a backbone, as a model file holds it.

        Raises
        ------
        ModelError
            For unknown settings and impossible values.
        """
        if not isinstance(content, dict):
            raise refused("backbone", "is not a table of settings", None)
        unknown = set(content) - {"architecture", "name", "arguments", "mean", "std"}
        if unknown:
            raise refused(f"backbone.{min(map(str, unknown))}", "is not known", None)
        colors = {
            name: tuple(content[name]) if isinstance(content[name], list) else content[name]
            for name in ("mean", "std")
            if content.get(name) is not None
        }
        return cls(content.get("name", ""), content.get("arguments", {}), **colors)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
TIMM_VARIANTS: dict[str, TimmSpec] = {
    "uni2_h": TimmSpec("vit_giant_patch14_reg4_dinov2", {"depth": 24}, IMAGENET_MEAN, IMAGENET_STD),
    "midnight": TimmSpec("vit_giant_patch14_dinov2", {}, _HALF, _HALF),
    "conch_v1_5": TimmSpec("vit_large_patch16_224", {}, IMAGENET_MEAN, IMAGENET_STD),
}
"""Names besides timm's own, of encoders whose page says what neither the weights nor a file beside
them do: the number of blocks, the normalization."""


@dataclass(frozen=True)
class TowerSpec:
    """The image tower of a CLIP, as the `spec` of a backbone has it.

    Parameters
    ----------
    embed_dim, vision, quick_gelu, mean, std
        As in `ClipSpec`.
    """

    embed_dim: int
    vision: VisionSpec
    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_dict(cls, content: object) -> TowerSpec:
        """Read the `spec` of a backbone, as a model file holds it.

        Raises
        ------
        ModelError
            For unknown settings and impossible values.
        """
        found = dict(content) if isinstance(content, dict) else {}
        vision = read_vision(found.pop("vision_cfg", None))
        found = check_settings(
            found,
            {"architecture": Allowed(choices=("open_clip",)), "embed_dim": _CLIP_KEYS["embed_dim"],
             "quick_gelu": _SWITCH, "mean": MEAN_RANGE, "std": STD_RANGE},
            inside="backbone", needed=("embed_dim", "quick_gelu", "mean", "std"),
        )  # fmt: skip
        return cls(
            found["embed_dim"], vision, found["quick_gelu"], tuple(found["mean"]),
            tuple(found["std"]),
        )  # fmt: skip


def read_trunk(content: object, path: Path | None = None) -> dict[str, int]:
    """Read the sizes of CONCH's vision transformer.

    Raises
    ------
    ModelError
        For unknown settings and impossible values.
    """
    sizes = check_settings(content, _TRUNK, inside="trunk", path=path, needed=tuple(_TRUNK))
    if sizes["image_size"] % sizes["patch"]:
        raise refused("trunk.patch", f"does not divide {sizes['image_size']}", path)
    return sizes


def check_colors(spec: Mapping[str, Any]) -> None:
    """Check the mean and standard deviation in the `spec` of a backbone.

    Raises
    ------
    ModelError
        When they are not three numbers each, with a standard deviation above 0.
    """
    for name, rule in (("mean", MEAN_RANGE), ("std", STD_RANGE)):
        value = spec.get(name)
        if not rule.accepts(value) or not all(math.isfinite(v) for v in value or ()):
            raise refused(f"backbone.{name}", "has to be three numbers", None)
