"""The backbone catalogue: which encoders there are, their licences, and how one is loaded.

A name is `bundled`; `hf-hub:ORG/REPO` or `local-dir:FOLDER`, both with open_clip's configuration
and weights; `open_clip:ARCHITECTURE=FILE`; `conch:FOLDER` with CONCH's weights and tokenizer; or
`timm:ARCHITECTURE=FILE` for an encoder without text. Nothing is downloaded unless
`allow_download` is set, and then never under `HF_HUB_OFFLINE`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import timm
from napari_plimseg.models.encoders.base import (
    CLIP_SCHEMES,
    RANDOM,
    Backbone,
    ImageEncoder,
    ImageTextEncoder,
    Matcher,
)
from napari_plimseg.models.encoders.cards import CONFIG_FILE, WEIGHT_FILES
from napari_plimseg.models.encoders.cnn import ClipResNetBackbone, TimmCnnBackbone
from napari_plimseg.models.encoders.conch import build_trunk
from napari_plimseg.models.encoders.open_clip import OpenClipEncoder
from napari_plimseg.models.encoders.vit import (
    TransformerBackbone,
    accept_any_size,
    is_timm_transformer,
)
from napari_plimseg.models.torchvision_compat import make_torchvision_importable

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_encoder(name: str, *, allow_download: bool = False) -> ImageEncoder:
    """Load an encoder by name.

    Parameters
    ----------
    name : str
        See the module's first lines.
    allow_download : bool
        Whether a `hf-hub:` model that is not on this computer may be fetched.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or is not what it claims to be.
    """
    if name == "bundled":
        from napari_plimseg.models.encoders.bundled import bundled_encoder

        return bundled_encoder()
    scheme, _, rest = name.partition(":")
    if scheme == "hf-hub" and rest:
        return _from_folder(_hub_folder(rest, allow_download), name)
    if scheme == "local-dir" and rest:
        return _from_folder(Path(rest), name)
    if scheme == "conch" and rest:
        from napari_plimseg.models.encoders.conch import load_conch

        return load_conch(Path(rest), name)
    architecture, _, file = rest.partition("=")
    if scheme == "open_clip" and file:
        from napari_plimseg.models.encoders.open_clip import OpenClipEncoder

        return OpenClipEncoder.from_file(architecture, Path(file))
    if scheme == "timm" and file:
        from napari_plimseg.models.encoders.timm import TimmEncoder

        return TimmEncoder(architecture, Path(file))
    raise ModelError(
        f"'{name}' is not the name of an encoder",
        remedy="Use bundled, hf-hub:ORG/REPO, local-dir:FOLDER, conch:FOLDER, "
        "open_clip:ARCHITECTURE=FILE or timm:ARCHITECTURE=FILE.",
    )


def _from_folder(folder: Path, name: str) -> ImageTextEncoder:
    from napari_plimseg.models.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder.from_folder(folder, name)


def _hub_folder(repository: str, allow_download: bool) -> Path:
    """Return the local copy of a hub repository; it is fetched only when that is allowed."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from napari_plimseg.models.encoders.cards import hub_folder

    own = hub_folder(repository)
    if own is not None:
        return own
    offline = not allow_download or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE"}
    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            local_files_only=offline,
            allow_patterns=["*.json", "*.txt", *WEIGHT_FILES],
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"'{repository}' is not on this computer",
            remedy=f"Put its {CONFIG_FILE} and {WEIGHT_FILES[0]} into a folder and choose "
            "local-dir:FOLDER, or allow the download.",
        ) from error
    return Path(folder)


_SMALLEST_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def timm_backbone(architecture: str, path: Path) -> Backbone:
    """Return one of timm's networks with the weights of a file."""
    built = timm.load(architecture, path)
    return _of_tower(built.network, f"timm:{architecture}={path}", built.digest, built.spec)


def clip_backbone(name: str) -> Backbone:
    """Return the image tower of an encoder that reads text."""
    encoder = open_clip_encoder(name)
    spec = {**encoder.config, "mean": list(encoder.mean), "std": list(encoder.std)}
    return _of_tower(encoder.network.visual, name, encoder.digest, spec)


def empty_external_backbone(spec: Mapping[str, Any]) -> Backbone:
    """Return what `timm_backbone` or `clip_backbone` made, without meaningful weights."""
    architecture = str(spec.get("architecture"))
    try:
        if architecture == "timm":
            return _of_tower(timm.build(spec).network, "timm", "", spec)
        if architecture == "conch":
            return _of_tower(build_trunk(spec["trunk"]), "conch", "", spec)
        if architecture == "open_clip":
            return _of_tower(_open_clip_tower(spec), "open_clip", "", spec)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"its image encoder can't be built ({error})") from error
    raise ModelError(f"its image encoder '{architecture}' is not known to this version")


def _open_clip_tower(spec: Mapping[str, Any]) -> Any:
    make_torchvision_importable()
    import open_clip

    vision = dict(spec["vision_cfg"])
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # or timm would fetch weights
    network: Any = open_clip.CLIP(
        int(spec["embed_dim"]), vision, dict(_SMALLEST_TEXT), quick_gelu=bool(spec["quick_gelu"])
    )
    return network.visual


def _of_tower(tower: Any, name: str, digest: str, spec: Mapping[str, Any]) -> Backbone:
    kind = type(tower).__name__
    if kind in {"TimmModel", "ConchVisual"}:
        tower = tower.trunk
        if is_timm_transformer(tower):
            accept_any_size(tower)
    if kind == "ModifiedResNet":
        return ClipResNetBackbone(tower, name=name, digest=digest, spec=spec)
    if is_timm_transformer(tower) or hasattr(tower, "transformer"):
        return TransformerBackbone(tower, name=name, digest=digest, spec=spec)
    return TimmCnnBackbone(tower, name=name, digest=digest, spec=spec)


def open_clip_encoder(name: str) -> OpenClipEncoder:
    """Load an image-text encoder of open_clip's kind.

    Raises
    ------
    ModelError
        When it can't be loaded or reads no text.
    """
    encoder = load_encoder(name)
    if not isinstance(encoder, OpenClipEncoder):
        raise ModelError(f"'{name}' is not an image-text model")
    return encoder


def load_backbone(name: str, *, seed: int = 0) -> Backbone:
    """Load a trainable image encoder; nothing of it is trainable yet.

    Parameters
    ----------
    name : str
        See the module's first lines.
    seed : int
        Of a `random:` backbone.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or gives no maps of blocks.
    """
    if name == "bundled" or name == RANDOM:
        from napari_plimseg.models.encoders.bundled_backbone import (
            bundled_backbone,
            random_backbone,
        )

        return bundled_backbone() if name == "bundled" else random_backbone(seed)
    scheme, _, rest = name.partition(":")
    if scheme == "timm" and "=" in rest:
        architecture, _, file = rest.partition("=")
        return timm_backbone(architecture, Path(file))
    if scheme in CLIP_SCHEMES and rest:
        return clip_backbone(name)
    raise _unknown(name)


def empty_backbone(spec: Mapping[str, Any]) -> Backbone:
    """Build a backbone from its `spec`, for weights that are loaded afterwards.

    Raises
    ------
    ModelError
        When this version can't build it.
    """
    from napari_plimseg.models.encoders.bundled_backbone import DenseNetBackbone

    if spec == DenseNetBackbone.SPEC:
        return DenseNetBackbone(name=RANDOM)
    from napari_plimseg.models.encoders.cards import SMALL
    from napari_plimseg.models.encoders.small import SmallBackbone

    if spec.get("architecture") == SMALL:
        return SmallBackbone.from_spec(spec)

    return empty_external_backbone(spec)


def load_matcher(name: str, *, seed: int = 0) -> Matcher:
    """Load a frozen image-text model.

    Parameters
    ----------
    name : str
        An encoder that reads text, or `random`: the bundled architecture and its true text
        tower, with a freshly initialised image tower.
    seed : int
        Of `random`.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or reads no text.
    """
    if name in {"bundled", "random"}:
        from napari_plimseg.models.encoders.bundled_backbone import BundledMatcher

        return BundledMatcher(random_seed=seed if name == "random" else None)
    if name.partition(":")[0] in CLIP_SCHEMES:
        from napari_plimseg.models.encoders.open_clip import ClipMatcher

        return ClipMatcher(open_clip_encoder(name), name)
    raise ModelError(
        f"'{name}' is not the name of an image-text model",
        remedy="Use bundled, random, hf-hub:ORG/REPO, local-dir:FOLDER, conch:FOLDER "
        "or open_clip:ARCHITECTURE=FILE.",
    )


def _unknown(name: str) -> ModelError:
    return ModelError(
        f"'{name}' is not the name of a backbone",
        remedy=f"Use bundled, {RANDOM}, hf-hub:ORG/REPO, local-dir:FOLDER, conch:FOLDER, "
        "open_clip:ARCHITECTURE=FILE or timm:ARCHITECTURE=FILE.",
    )
