"""Every model and encoder that is here or can be had: listed, imported, fetched and removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError, PlimsegError
from napari_plimseg.files import user_data_dir
from napari_plimseg.models.downloads import HUB_PAGE, DownloadProgress, Remote, RemoteFile, fetch
from napari_plimseg.models.encoders.cards import (
    CARDS,
    CONFIG_FILE,
    SMALL,
    EncoderCard,
    bundled_folder,
    bytes_here,
    damage,
    encoders_folder,
    files_of,
    folder_of,
    is_begun,
    loadable_name,
    missing_files,
    weights_path,
    without_path,
)
from napari_plimseg.tissue import COLORECTAL, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from napari_plimseg.models.model_file import ModelHeader


BUNDLED = "bundled"
BUNDLED_TISSUE = "bundled-tissue"
BUNDLED_MPP = 0.5
_TISSUE_LICENSE = "BSD-3-Clause; trained on CC-BY 4.0 data (Kather et al.); research use"
HINT_MODEL_FILE = "hints.safetensors"
ENCODER_SCHEMES = ("hf-hub:", "local-dir:", "open_clip:", "conch:", "timm:")


class Kind(Enum):
    """Where an entry comes from."""

    BUNDLED = "bundled"
    OWN = "own"
    ENCODER = "encoder"
    OWN_ENCODER = "own encoder"


class EntryState(Enum):
    """Whether an entry can be used."""

    READY = "ready"
    NOT_HERE = "not here"
    PARTIAL = "incomplete"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class LibraryEntry:
    """A model or an encoder.

    Parameters
    ----------
    key : str
        Identifies it in the library, whatever its state.
    name : str
        What `load_model` or `load_encoder` takes; empty while it can't be loaded.
    title, description : str
        What people read.
    kind : Kind
    state : EntryState
    reason : str
        Why it can't be used and what to do, as sentences; empty when it can.
    license, source : str
    page : str
        Address of its page; empty when there is none.
    gated : bool
        Whether its authors ask for an agreement before a download.
    makes_masks : bool
        Whether it can be used for a mask; others are for training only.
    classes : TissueClasses or None
        None when it takes any words, or none at all.
    mpp : float
        Micrometres per pixel at which it works.
    size_bytes : int
        On this disk.
    path : Path or None
        Its file or folder; None when nothing is here.
    scores : mapping
        Measured, by name.
    history : mapping
        What its header says of how it was made, by what to call it.
    downloadable : bool
        Whether it can be fetched.
    removable : bool
        Whether it is the user's to remove.
    """

    key: str
    name: str
    title: str
    description: str
    kind: Kind
    state: EntryState
    reason: str = ""
    license: str = ""
    source: str = ""
    page: str = ""
    gated: bool = False
    makes_masks: bool = True
    classes: TissueClasses | None = None
    mpp: float = BUNDLED_MPP
    size_bytes: int = 0
    path: Path | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, str] = field(default_factory=dict)
    downloadable: bool = False
    removable: bool = False


@dataclass(frozen=True)
class Offer:
    """What a download would bring, for the question before it.

    Parameters
    ----------
    entry : LibraryEntry
    files : tuple of RemoteFile
    """

    entry: LibraryEntry
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class ModelLibrary:
    """The models of this computer. Listing never touches the network.

    Parameters
    ----------
    remote : Remote, optional
        Where files are fetched from; the hub by default.
    """

    def __init__(self, remote: Remote | None = None) -> None:
        self._remote = remote

    def entries(self) -> list[LibraryEntry]:
        """Return the bundled models, the user's own ones and every encoder of the catalogue."""
        models = models_folder()
        return [
            _bundled(),
            _bundled_tissue(),
            *(_own_model(path) for path in sorted(models.glob("*.safetensors"))),
            *(_own_encoder(path) for path in _own_encoder_folders()),
            *(_encoder(card) for card in CARDS if card.name != BUNDLED),
        ]

    def entry(self, key: str) -> LibraryEntry:
        """Return an entry by its key, its name or its title; letter case does not matter.

        Raises
        ------
        ModelError
            When there is none.
        """
        entries, wanted = self.entries(), key.casefold()
        for entry in entries:
            if wanted and wanted in (
                entry.key.casefold(),
                entry.name.casefold(),
                entry.title.casefold(),
            ):
                return entry
        raise ModelError(
            f"there is no model '{key}'",
            remedy="Known: " + ", ".join(entry.key for entry in entries) + ".",
        )

    def offer(self, key: str) -> Offer:
        """Ask the host what a download would bring; touches the network.

        Raises
        ------
        ModelError
            When it can't be fetched, or the host can't be reached; says what to put where.
        """
        entry, card = self.entry(key), _card(key)
        if card is None or not files_of(card).repository:
            raise ModelError(f"'{entry.title}' can't be downloaded", remedy=entry.reason or None)
        files = files_of(card)
        found: list[RemoteFile] = []
        try:
            for names in files.needed:
                options = (self._get_remote().find(files.repository, name) for name in names)
                file = next((option for option in options if option is not None), None)
                if file is None:
                    raise ModelError(f"{files.repository} has no file '{names[0]}'")
                found.append(file)
            for name in files.optional:
                extra = self._get_remote().find(files.repository, name)
                if extra is not None:
                    found.insert(0, extra)
        except ModelError as error:
            raise _with_advice(error, card) from error
        return Offer(entry, tuple(found))

    def download(self, offer: Offer) -> Generator[DownloadProgress, None, None]:
        """Fetch what was offered; closing the generator keeps what came so far.

        Raises
        ------
        ModelError
            As `fetch` does, with what to put where.
        """
        card = _card(offer.entry.key)
        if card is None:
            raise ModelError(f"'{offer.entry.title}' can't be downloaded")
        try:
            yield from fetch(self._get_remote(), list(offer.files), folder_of(card))
        except ModelError as error:
            raise _with_advice(error, card) from error

    def remove(self, key: str) -> None:
        """Remove a model or an encoder of the user's, or what was fetched of one.

        Raises
        ------
        ModelError
            When it is not the user's to remove, or can't be removed.
        """
        entry = self.entry(key)
        if not entry.removable or entry.path is None:
            raise ModelError(why_not_remove(entry))
        try:
            if entry.path.is_dir():
                # first out of sight: a removal that is interrupted leaves no half encoder
                gone = entry.path.with_name(f".removed-{entry.path.name}")
                shutil.rmtree(gone, ignore_errors=True)
                entry.path.rename(gone)
                shutil.rmtree(gone)
            else:
                entry.path.unlink()
        except OSError as error:
            raise ModelError(
                f"can't be removed ({error.strerror or error})",
                path=entry.path,
                remedy="Close other programs that use it.",
            ) from error

    def _get_remote(self) -> Remote:
        if self._remote is None:
            from napari_plimseg.models.downloads import HubRemote

            self._remote = HubRemote()
        return self._remote


def why_not_remove(entry: LibraryEntry) -> str:
    """Return why an entry can't be removed, as a sentence; empty when it can."""
    if entry.removable:
        return ""
    if entry.kind is Kind.BUNDLED:
        return "The bundled model belongs to the plugin and stays."
    if entry.path is not None:
        return "It lies in the hub's own cache, which other programs use: hf cache rm removes it."
    return "Nothing of it is on this computer."


def _card(key: str) -> EncoderCard | None:
    wanted = key.casefold()
    cards = (card for card in CARDS if card.name != BUNDLED)
    return next((c for c in cards if wanted in (c.title.casefold(), c.name.casefold())), None)


def _bundled() -> LibraryEntry:
    from napari_plimseg.models.encoders.cards import bundled_folder

    info = bundled_info()
    return LibraryEntry(
        info.name, info.name, info.title, info.description, Kind.BUNDLED,
        EntryState.READY if info.available else EntryState.DAMAGED, info.reason, info.license,
        info.source, classes=info.classes, mpp=info.mpp, size_bytes=info.size_bytes,
        path=bundled_folder(),
    )  # fmt: skip


def _bundled_tissue() -> LibraryEntry:
    info, path = tissue_info(), tissue_file()
    entry = LibraryEntry(
        info.name, info.name, info.title, info.description, Kind.BUNDLED, EntryState.DAMAGED,
        info.reason, source=info.source,
    )  # fmt: skip
    if not info.available:
        return entry
    found = _own_model(path)
    return replace(
        found,
        **{name: getattr(entry, name) for name in ("key", "name", "description", "kind", "source")},
        removable=False,
    )


def _own_model(path: Path) -> LibraryEntry:
    from napari_plimseg.models.model_file import read_header

    info = file_info(path)
    entry = LibraryEntry(
        info.name, "", info.title, info.description, Kind.OWN, EntryState.DAMAGED, info.reason,
        size_bytes=info.size_bytes, path=path, removable=True,
    )  # fmt: skip
    try:
        header = read_header(path)
    except PlimsegError:
        return entry
    history = {
        "kind": header.kind,
        "encoder": without_path(header.encoder),
        "patch size": f"{header.patch_size} px",
        "training images": header.training_sha256[:12],
        **{f"made with {name}": version for name, version in header.versions.items()},
    }
    return replace(
        entry,
        name=info.name if info.available else "",
        state=EntryState.READY if info.available else EntryState.PARTIAL,
        license=info.license,
        source="trained or imported on this computer",
        classes=header.classes,
        mpp=header.mpp,
        scores=header.scores,
        history={what: text for what, text in history.items() if text},
    )


def _own_encoder_folders() -> list[Path]:
    known = {folder_of(card) for card in CARDS if card.name != BUNDLED}
    found = sorted(config.parent for config in encoders_folder().glob(f"*/{CONFIG_FILE}"))
    return [p for p in found if p not in known and not p.name.startswith(".")]


def _own_encoder(folder: Path) -> LibraryEntry:
    name = f"local-dir:{folder}"
    size = sum(p.stat().st_size for p in folder.glob("*") if p.is_file())
    return LibraryEntry(
        folder.name, name, folder.name, "An encoder of open_clip: any words that you type.",
        Kind.OWN_ENCODER, EntryState.READY, license="its own", source="imported",
        size_bytes=size, path=folder, removable=True,
    )  # fmt: skip


def _encoder(card: EncoderCard) -> LibraryEntry:
    files, folder = files_of(card), folder_of(card)
    broken, missing, name = damage(card), missing_files(card), loadable_name(card)
    cached = card.on_hub and name is None and not broken and is_cached(card.source)
    here = folder.is_dir() and any(folder.iterdir())
    if broken:
        state, reason = EntryState.DAMAGED, broken
    elif name is not None or cached:
        state, reason = EntryState.READY, ""
    elif here:
        state, reason = EntryState.PARTIAL, _advice(card, missing)
        if is_begun(card):
            reason = f"The download is not finished: press Download to go on. {reason}"
    else:
        state, reason = EntryState.NOT_HERE, _advice(card, missing)
    what = "any words that you type" if card.reads_text else "for training only, it reads no text"
    return LibraryEntry(
        key=card.title, title=card.title, description=f"{card.architecture}: {what}.",
        name=(name or card.name) if state is EntryState.READY else "",
        kind=Kind.ENCODER, state=state, reason=reason, license=card.license, source=card.source,
        page=f"{HUB_PAGE}/{files.repository}" if files.repository else "", gated=card.gated,
        makes_masks=card.reads_text, size_bytes=bytes_here(card),
        path=folder if here else cached_folder(card.source) if cached else None,
        downloadable=bool(files.repository) and bool(set(missing) - set(files.by_hand))
        and state in (EntryState.NOT_HERE, EntryState.PARTIAL), removable=here,
    )  # fmt: skip


def _advice(card: EncoderCard, missing: tuple[str, ...]) -> str:
    """Return what to put where, for people without a network or with a gated model."""
    files, names = files_of(card), " and ".join(missing)
    where = f"from {HUB_PAGE}/{files.repository} " if files.repository else f"({card.source}) "
    if files.by_hand and set(missing) <= set(files.by_hand):
        where = "from its authors' program "
    return f"Put {names} {where}into the folder {folder_of(card)}."


def _with_advice(error: ModelError, card: EncoderCard) -> ModelError:
    missing = missing_files(card)
    advice = f"Or by hand: {_advice(card, missing)}" if missing else ""
    remedy = " ".join(part for part in (error.remedy, advice) if part)
    return ModelError(error.problem, path=error.path, remedy=remedy or None)


@dataclass(frozen=True)
class ModelInfo:
    """A model in the list of models.

    Parameters
    ----------
    name : str
        What `load_model` takes.
    title, description : str
        What people read.
    classes : TissueClasses
    mpp : float
        Micrometres per pixel at which it works.
    license, source : str
    size_bytes : int
        On disk; 0 when it is not there.
    available : bool
        Whether it can be loaded now.
    reason : str
        Why it can't, and what to do; empty when it can.
    """

    name: str
    title: str
    description: str
    classes: TissueClasses
    mpp: float
    license: str
    source: str
    size_bytes: int
    available: bool
    reason: str = ""


def models_folder() -> Path:
    """Return where the user's own model files lie; it may not exist yet."""
    return user_data_dir() / "models"


def list_models() -> list[ModelInfo]:
    """Return the bundled models, the user's own model files, and known ones that can be had.

    Models for hints are apart, in `hint_catalogue.list_hint_models`.
    """
    own = [path for path in sorted(models_folder().glob("*.safetensors")) if not for_hints(path)]
    cards = (_card_info(card) for card in CARDS if card.name != BUNDLED and card.reads_text)
    return [
        bundled_info(),
        tissue_info(),
        *(file_info(path) for path in own),
        *(info for info in cards if info is not None),
    ]


def bundled_info() -> ModelInfo:
    """Return the shipped model."""
    from napari_plimseg.models.encoders.cards import (
        BUNDLED_WEIGHTS_FILE,
        CONFIG_FILE,
        TOKENIZER_FILE,
        bundled_folder,
    )

    card = next(card for card in CARDS if card.name == BUNDLED)
    weights = bundled_folder() / BUNDLED_WEIGHTS_FILE
    files = (
        bundled_folder() / name for name in (CONFIG_FILE, TOKENIZER_FILE, BUNDLED_WEIGHTS_FILE)
    )
    size = sum(file.stat().st_size for file in files if file.is_file())
    return ModelInfo(
        BUNDLED, card.title,
        "Nine colorectal tissue classes, or any words that you type. For research use only.",
        COLORECTAL, BUNDLED_MPP, card.license, card.source, size, weights.is_file(),
        "" if weights.is_file() else "Its weights are missing: install napari-plimseg again.",
    )  # fmt: skip


def tissue_file() -> Path:
    """Return where the shipped model lies that was trained from tags."""
    from napari_plimseg.models.encoders.cards import TISSUE_FILE, bundled_folder

    return bundled_folder() / TISSUE_FILE


def tissue_info() -> ModelInfo:
    """Return the shipped model that was trained from tags; its file is not opened."""
    path = tissue_file()
    present = path.is_file()
    return ModelInfo(
        BUNDLED_TISSUE, "Colorectal tissue, from tags",
        "Nine colorectal tissue classes, trained from image-level tags. For research use only.",
        COLORECTAL, BUNDLED_MPP, _TISSUE_LICENSE, "napari-plimseg",
        path.stat().st_size if present else 0, present,
        "" if present else "Its weights are missing: install napari-plimseg again.",
    )  # fmt: skip


def file_info(path: Path) -> ModelInfo:
    """Return what a model file of the user's says about itself, or why it can't be used."""
    from napari_plimseg.models.model_file import read_header

    missing = ModelInfo(
        path.stem, path.stem, "A model file that can't be used.", COLORECTAL, BUNDLED_MPP, "",
        path.name, path.stat().st_size, False,
    )  # fmt: skip
    try:
        header: ModelHeader = read_header(path)
    except PlimsegError as error:
        return replace(missing, reason=str(error))
    encoder = weights_path(header.encoder)
    lost = encoder is not None and not encoder.exists()
    return ModelInfo(
        path.stem, header.title or path.stem, _description(header),
        header.classes, header.mpp, header.license, path.name, path.stat().st_size, not lost,
        "The weights of its encoder are not where they were: put them back, or train it again."
        if lost else "",
    )  # fmt: skip


def for_hints(path: Path) -> bool:
    """Whether a model file is one for points and boxes; False when it can't be read."""
    from napari_plimseg.models.model_file import read_header

    try:
        return read_header(path).kind == "hints"
    except PlimsegError:
        return False


def _description(header: ModelHeader) -> str:
    if header.kind == "hints":
        return f"Objects from points and boxes, on {without_path(header.encoder)}."
    how = "trained on" if header.kind == "segmentation" else "words on"
    text = f"Your own model, {how} {without_path(header.encoder)}"
    if header.encoder == SMALL:
        text = "Your own fast model, taught by a larger one"
    scores = ", ".join(f"{name} {value:.3g}" for name, value in header.scores.items())
    return f"{text}: {scores}." if scores else f"{text}."


def _card_info(card: EncoderCard) -> ModelInfo | None:
    from napari_plimseg.models.encoders.cards import damage, folder_of, loadable_name

    name = loadable_name(card)
    if name is None and not card.on_hub:
        return None  # its name alone says nothing: it is listed once its files are here
    present = name is not None or is_cached(card.source)
    remedy = damage(card) or (
        "Not on this computer. Fetch it in PLIMSeg Models, or put its open_clip_config.json and "
        f"open_clip_model.safetensors into the folder {folder_of(card)}."
    )
    return ModelInfo(
        name or card.name, card.title, f"{card.architecture}: any words that you type.",
        COLORECTAL, BUNDLED_MPP, card.license, card.source, 0, present, "" if present else remedy,
    )  # fmt: skip


def is_cached(repository: str) -> bool:
    """Whether the hub's own cache, which other programs share, holds an encoder."""
    return cached_folder(repository) is not None


def cached_folder(repository: str) -> Path | None:
    """Return the folder of a repository in the hub's own cache, None when it is not there."""
    import huggingface_hub

    from napari_plimseg.models.encoders.cards import CONFIG_FILE

    found = huggingface_hub.try_to_load_from_cache(repository, CONFIG_FILE)
    return Path(found).parent if isinstance(found, str) else None


def list_hint_models() -> list[ModelInfo]:
    """Return the shipped model for hints and the user's own ones; SAMs are named, not listed."""
    own = sorted(models_folder().glob("*.safetensors"))
    return [
        _bundled_hint_info(),
        *(file_info(path) for path in own if for_hints(path)),
    ]


def _bundled_hint_info() -> ModelInfo:
    path = bundled_folder() / HINT_MODEL_FILE
    if path.is_file():
        found = file_info(path)
        return ModelInfo(**{**vars(found), "name": BUNDLED, "source": "napari-plimseg"})
    shipped = bundled_info()
    return ModelInfo(
        BUNDLED, "Points and boxes", "The model for points and boxes that comes along.",
        shipped.classes, 1.0, "", "napari-plimseg", 0, False,
        "Its weights are missing: install napari-plimseg again.",
    )  # fmt: skip
