"""Every model and encoder that is here or can be had: listed, imported, fetched and removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError, PlimsegError
from napari_plimseg.models import catalogue
from napari_plimseg.models.downloads import HUB_PAGE, DownloadProgress, Remote, RemoteFile, fetch
from napari_plimseg.models.encoder_files import (
    bytes_here,
    damage,
    encoders_folder,
    files_of,
    folder_of,
    is_begun,
    loadable_name,
    missing_files,
)
from napari_plimseg.models.encoders import CARDS, CONFIG_FILE, EncoderCard, without_path

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from napari_plimseg.tissue import TissueClasses


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
    mpp: float = catalogue.BUNDLED_MPP
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
        models = catalogue.models_folder()
        return [
            _bundled(),
            _bundled_tissue(),
            *(_own_model(path) for path in sorted(models.glob("*.safetensors"))),
            *(_own_encoder(path) for path in _own_encoder_folders()),
            *(_encoder(card) for card in CARDS if card.name != catalogue.BUNDLED),
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
            from napari_plimseg.models.hub import HubRemote

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
    cards = (card for card in CARDS if card.name != catalogue.BUNDLED)
    return next((c for c in cards if wanted in (c.title.casefold(), c.name.casefold())), None)


def _bundled() -> LibraryEntry:
    from napari_plimseg.models.bundled_files import bundled_folder

    info = catalogue.bundled_info()
    return LibraryEntry(
        info.name, info.name, info.title, info.description, Kind.BUNDLED,
        EntryState.READY if info.available else EntryState.DAMAGED, info.reason, info.license,
        info.source, classes=info.classes, mpp=info.mpp, size_bytes=info.size_bytes,
        path=bundled_folder(),
    )  # fmt: skip


def _bundled_tissue() -> LibraryEntry:
    info, path = catalogue.tissue_info(), catalogue.tissue_file()
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

    info = catalogue.file_info(path)
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
    known = {folder_of(card) for card in CARDS if card.name != catalogue.BUNDLED}
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
    cached = card.on_hub and name is None and not broken and catalogue.is_cached(card.source)
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
        path=folder if here else catalogue.cached_folder(card.source) if cached else None,
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
