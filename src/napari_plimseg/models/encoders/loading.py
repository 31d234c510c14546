"""Load an encoder by its name: one row per scheme in `FAMILIES` says how.

A further CLIP of the hub, or a further network of timm, needs no code: append its card to
`cards.CARDS`. An encoder of a new family needs a module with its class, a row here and, in
`cards`, the form of its names and its card. `register_scheme` does the same from outside.

Nothing here uses the network, and nothing runs code of a file: `external` builds the networks of
other libraries from specifications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from napari_plimseg.errors import ModelError
from napari_plimseg.models.downloads import cached_folder, offline
from napari_plimseg.models.encoders.bundled import bundled_encoder
from napari_plimseg.models.encoders.bundled_backbone import (
    BundledMatcher,
    DenseNetBackbone,
    bundled_backbone,
    random_backbone,
)
from napari_plimseg.models.encoders.cards import (
    BUNDLED,
    CONFIG_FILE,
    SCHEMES,
    SMALL,
    SMALL_ARCHITECTURE,
    SMALL_WEIGHTS_FILE,
    WEIGHT_FILES,
    EncoderName,
    NameForm,
    bundled_folder,
    hub_folder,
    without_folders,
)
from napari_plimseg.models.encoders.conch_keep import load_conch, load_keep
from napari_plimseg.models.encoders.external import check_fit, shapes_of
from napari_plimseg.models.encoders.known import remember
from napari_plimseg.models.encoders.open_clip import ClipMatcher, OpenClipEncoder
from napari_plimseg.models.encoders.small import SmallBackbone
from napari_plimseg.models.encoders.timm import TimmEncoder
from napari_plimseg.models.encoders.towers import (
    clip_backbone,
    rebuilt_clip,
    rebuilt_conch,
    rebuilt_timm,
    timm_backbone,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from napari_plimseg.models.encoders.base import Backbone, ImageEncoder, Matcher
    from napari_plimseg.models.weights import Described

T = TypeVar("T")


@dataclass(frozen=True)
class EncoderFamily:
    """How the encoders of one scheme are loaded; None for what they can't be used as.

    Parameters
    ----------
    encoder : callable, optional
        From a complete name to an `ImageEncoder`, for zero-shot maps.
    backbone : callable, optional
        From a complete name and a seed to a `Backbone`, for training.
    matcher : callable, optional
        From a complete name and a seed to a `Matcher`, for matching images and texts.
    architecture : str
        Key in the `spec` of its backbones, by which model files name the network.
    rebuild : callable, optional
        From such a `spec` to the same backbone without meaningful weights.
    """

    encoder: Callable[[EncoderName], ImageEncoder] | None = None
    backbone: Callable[[EncoderName, int], Backbone] | None = None
    matcher: Callable[[EncoderName, int], Matcher] | None = None
    architecture: str = ""
    rebuild: Callable[[Mapping[str, Any]], Backbone] | None = None

    def __post_init__(self) -> None:
        if bool(self.architecture) != (self.rebuild is not None):
            raise ValueError("an architecture needs a function that rebuilds it, and vice versa")


def load_encoder(name: str) -> ImageEncoder:
    """Load an encoder for dense vectors.

    Parameters
    ----------
    name : str
        `bundled`, `hf-hub:ORG/REPO`, `local-dir:FOLDER`, `conch:FOLDER`,
        `keep:FOLDER`, `open_clip:ARCHITECTURE=FILE`, `timm:ARCHITECTURE=FILE`, or of a registered
        scheme.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or is not what it claims to be.
    """
    parsed, load = _loader(name, "encoder", lambda family: family.encoder)
    encoder = _read(lambda: load(parsed))
    _remember(parsed, encoder)
    return encoder


def load_backbone(name: str, *, seed: int = 0) -> Backbone:
    """Load a trainable image encoder; all of its weights are frozen at first.

    Parameters
    ----------
    name : str
        As for `load_encoder`, or `small` for the shipped EfficientNet-Lite0 of ImageNet, or
        `random:densenet121` for initial weights.
    seed : int
        Of a `random:` backbone.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or has no maps of its blocks.
    """
    parsed, load = _loader(name, "backbone", lambda family: family.backbone)
    backbone = _read(lambda: load(parsed, seed))
    _remember(parsed, backbone)
    return backbone


def load_matcher(name: str, *, seed: int = 0) -> Matcher:
    """Load a frozen image-text model.

    Parameters
    ----------
    name : str
        As for `load_encoder`, except vision-only encoders; or `random`: the bundled text tower
        with an image tower of initial weights.
    seed : int
        Of `random`.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or is vision-only.
    """
    parsed, load = _loader(name, "image-text model", lambda family: family.matcher)
    return _read(lambda: load(parsed, seed))


def _read(load: Callable[[], T]) -> T:
    """Call a loader offline; a place that can't be looked at is a `ModelError`."""
    try:
        with offline():
            return load()
    except OSError as error:
        raise ModelError(f"its encoder can't be read ({error.strerror or error})") from error


def _remember(name: EncoderName, loaded: ImageEncoder | Backbone) -> None:
    """Put what the user named into the list of known encoders."""
    if name.path is not None:
        identities = getattr(loaded, "identities", (loaded.identity,))
        remember(name, getattr(loaded, "digest", ""), identities)


def is_image_text(name: str) -> bool:
    """Whether a name is that of a pretrained image-text model; its files are not looked at."""
    try:
        family = FAMILIES.get(EncoderName.parse(name).scheme)
    except ModelError:
        return False
    # `random` has a matcher too, as a control, but its image tower matches no text
    return family is not None and None not in (family.encoder, family.matcher)


def empty_backbone(
    spec: Mapping[str, Any],
    weights: Described | None = None,
) -> Backbone:
    """Build a backbone from its `spec`, for weights that are loaded afterwards.

    Parameters
    ----------
    spec : mapping
        As `Backbone.spec` holds it; a model file's is not trusted.
    weights : mapping, optional
        That will be loaded, or the rows of a file's table. When they are not those of the network,
        nothing is built: a header of a few bytes could otherwise take gigabytes.

    Raises
    ------
    ModelError
        When this version can't build it, or it has other weights.
    """
    if weights is not None:
        check_fit(weights, lambda: _rebuilt(spec))
    return _rebuilt(spec)


def backbone_shapes(spec: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a backbone by its `spec`, with shapes and without memory.

    Raises
    ------
    ModelError
        When this version can't build it, or it is larger than the limit `model-bytes`.
    """
    return shapes_of(lambda: _rebuilt(spec))


def _rebuilt(spec: Mapping[str, Any]) -> Backbone:
    architecture = spec.get("architecture") if isinstance(spec, dict) else None
    for family in FAMILIES.values():
        if family.rebuild is not None and family.architecture == architecture:
            try:
                with offline():
                    return family.rebuild(spec)
            except ModelError as error:
                raise ModelError(
                    f"its image encoder can't be built: {error.problem}", remedy=error.remedy
                ) from error
            except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
                raise ModelError(f"its image encoder can't be built ({error})") from error
    raise ModelError(f"its image encoder '{str(architecture)[:60]}' is not known to this version")


def register_scheme(form: NameForm, family: EncoderFamily) -> None:
    """Make names of a new scheme loadable.

    Parameters
    ----------
    form : NameForm
        What its names look like.
    family : EncoderFamily
        How they are loaded.

    Raises
    ------
    ValueError
        When the scheme is taken.
    """
    if form.scheme in SCHEMES:
        raise ValueError(f"the scheme '{form.scheme}' is taken")
    SCHEMES[form.scheme] = form
    FAMILIES[form.scheme] = family


def _loader(
    text: str, what: str, pick: Callable[[EncoderFamily], T | None]
) -> tuple[EncoderName, T]:
    """Return a name in its parts and its family's loader.

    Raises
    ------
    ModelError
        When the text is not a complete name, or its family has no such loader.
    """
    known = [str(SCHEMES[scheme]) for scheme, row in FAMILIES.items() if pick(row) is not None]
    article = "an" if what[0] in "aeiou" else "a"
    refusal = ModelError(
        f"'{without_folders(text)}' is not the name of {article} {what}",
        remedy=f"Use {', '.join(known[:-1])} or {known[-1]}.",
    )
    try:
        name = EncoderName.parse(text)
    except ModelError as error:
        raise refusal from error
    family = FAMILIES.get(name.scheme)
    load = None if family is None else pick(family)
    if load is None or not name.is_complete:
        raise refusal
    return name, load


def _hub_clip(name: EncoderName) -> OpenClipEncoder:
    """Load a hub repository's CLIP from the package's own folder or the hub's cache."""
    folder = hub_folder(name.place) or cached_folder(name.place, ((CONFIG_FILE,), WEIGHT_FILES))
    if folder is None:
        raise ModelError(
            f"'{name.place}' is not on this computer",
            remedy="Download it in PLIMSeg Models if it is listed there, or put its "
            f"{CONFIG_FILE} and {WEIGHT_FILES[0]} into a folder and use local-dir:FOLDER.",
        )
    return OpenClipEncoder.from_folder(folder, str(name))


def _clip_family(
    load: Callable[[EncoderName], OpenClipEncoder],
    architecture: str = "",
    rebuild: Callable[[Mapping[str, Any]], Backbone] | None = None,
) -> EncoderFamily:
    """Return the row of a CLIP's scheme: all three uses start from the same encoder."""

    def remembered(name: EncoderName) -> OpenClipEncoder:
        encoder = load(name)
        _remember(name, encoder)
        return encoder

    return EncoderFamily(
        encoder=load,
        backbone=lambda name, seed: clip_backbone(remembered(name), str(name)),
        matcher=lambda name, seed: ClipMatcher(remembered(name), str(name)),
        architecture=architecture,
        rebuild=rebuild,
    )


FAMILIES: dict[str, EncoderFamily] = {
    BUNDLED: EncoderFamily(
        encoder=lambda name: bundled_encoder(),
        backbone=lambda name, seed: bundled_backbone(),
        matcher=lambda name, seed: BundledMatcher(),
        architecture="densenet121",
        rebuild=DenseNetBackbone.from_spec,
    ),
    "random": EncoderFamily(
        backbone=lambda name, seed: random_backbone(seed),
        matcher=lambda name, seed: BundledMatcher(random_seed=seed),
    ),
    "hf-hub": _clip_family(_hub_clip),
    "local-dir": _clip_family(lambda name: OpenClipEncoder.from_folder(name.weights, str(name))),
    "conch": _clip_family(lambda name: load_conch(name.weights, str(name)), "conch", rebuilt_conch),
    # its backbone is one of timm's
    "keep": _clip_family(lambda name: load_keep(name.weights, str(name))),
    "open_clip": _clip_family(
        lambda name: OpenClipEncoder.from_file(name.architecture, name.weights),
        "open_clip",
        rebuilt_clip,
    ),
    "timm": EncoderFamily(
        encoder=lambda name: TimmEncoder(name.architecture, name.weights),
        backbone=lambda name, seed: timm_backbone(name.architecture, name.weights, str(name)),
        architecture="timm",
        rebuild=rebuilt_timm,
    ),
    SMALL: EncoderFamily(
        backbone=lambda name, seed: timm_backbone(
            SMALL_ARCHITECTURE, bundled_folder() / SMALL_WEIGHTS_FILE, SMALL
        ),
        architecture=SMALL,
        rebuild=SmallBackbone.from_spec,
    ),
}
"""How the encoders of each scheme are loaded; `register_scheme` adds to it."""
