"""The one list of models and encoders: what is installed, what can be, and how to get it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError, PlimsegError
from napari_plimseg.files import sweep, temporary_prefix, user_data_dir
from napari_plimseg.models.downloads import (
    HUB_PAGE,
    DownloadProgress,
    Remote,
    RemoteFile,
    cached_folder,
    fetch,
)
from napari_plimseg.models.encoders import (
    BUNDLED,
    BUNDLED_WEIGHTS_FILE,
    CARDS,
    CONFIG_FILE,
    SKIN_FILE,
    SMALL,
    TISSUE_FILE,
    TOKENIZER_FILE,
    EncoderCard,
    EncoderName,
    bundled_folder,
    bytes_here,
    card_titled,
    damage,
    encoders_folder,
    folder_of,
    is_begun,
    is_known,
    loadable_name,
    missing_encoder,
    missing_files,
    without_path,
)
from napari_plimseg.models.model_file import read_header
from napari_plimseg.tissue import COLORECTAL, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from napari_plimseg.models.model_file import ModelHeader


BUNDLED_TISSUE = "bundled-tissue"
BUNDLED_SKIN = "bundled-skin"
BUNDLED_PROMPTABLE = "bundled-hints"
SHIPPED_FILES = {BUNDLED_TISSUE: TISSUE_FILE, BUNDLED_SKIN: SKIN_FILE}
"""Files of the shipped models of tissue classes, by their keys."""
RESERVED = (BUNDLED, *SHIPPED_FILES, BUNDLED_PROMPTABLE)
"""Keys of the shipped models; a user's model can't have one."""
BUNDLED_MPP = 0.5
HINT_MODEL_FILE = "hints.safetensors"
NO_CHECKSUM = "made before model files had one; train or export it again to get it"
_NO_MASKS = "It holds the CAMs of a stage 1 and makes no masks: see Show CAM in the dock PLIMSeg."
_REINSTALL = "Its weights are missing: install napari-plimseg again."


class Kind(Enum):
    """Where an entry comes from."""

    BUNDLED = "bundled"
    OWN = "own"
    ENCODER = "encoder"
    OWN_ENCODER = "own encoder"


class Task(Enum):
    """What an entry is used for."""

    MASKS = "masks"
    """`load_model` takes its name."""
    PROMPTS = "points and boxes"
    """`load_promptable_model` takes its name."""
    TRAINING = "training only"
    """A vision-only encoder: `load_backbone` takes its name."""


class EntryState(Enum):
    """Whether an entry can be used.

    The values are printed by `plimseg models list --json`, so programs rely on them; people read
    the `label`.
    """

    READY = "ready"
    NOT_HERE = "not here"
    PARTIAL = "incomplete"
    DAMAGED = "damaged"

    @property
    def label(self) -> str:
        """What people read."""
        return "not installed" if self is EntryState.NOT_HERE else self.value


@dataclass(frozen=True)
class ModelEntry:
    """A model or an encoder.

    Parameters
    ----------
    key : str
        Identifies it in the library, whatever its state.
    name : str
        What the function of its `task` loads it by; "" while that depends on where the user's
        copy of the weights will be.
    title, description : str
        For people.
    kind : Kind
    state : EntryState
    reason : str
        Why it can't be used and what to do, as sentences; "" exactly when it is ready.
    license, source : str
    page : str
        Address of its web page; "" when there is none.
    gated : bool
        Whether its authors require an agreement before a download.
    task : Task
    classes : TissueClasses or None
        None when it takes any text prompts, or has no classes.
    mpp : float
        Micrometers per pixel at which it works.
    size_bytes : int
        On this disk.
    path : Path or None
        Its file or folder; None when nothing is on this computer.
    scores : mapping
        Measured, by name.
    history : mapping
        How it was made, by what to call it.
    downloadable : bool
    removable : bool
        Whether the user may remove it.
    needs_place : str
        "FILE" or "FOLDER" when the weights of its encoder are outside of its file and their place
        is not known: what `import_weights` then takes.
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
    task: Task = Task.MASKS
    classes: TissueClasses | None = None
    mpp: float = BUNDLED_MPP
    size_bytes: int = 0
    path: Path | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, str] = field(default_factory=dict)
    downloadable: bool = False
    removable: bool = False
    needs_place: str = ""

    def __post_init__(self) -> None:
        if not self.key or not self.title:
            raise ValueError("an entry needs a key and a title")
        if self.available and not self.name:
            raise ValueError(f"'{self.key}' is ready and has no name to load it by")
        if self.available == bool(self.reason):
            raise ValueError(f"'{self.key}' is {self.state.label} because of '{self.reason}'")
        if self.downloadable and self.available:
            raise ValueError(f"'{self.key}' is ready and can still be downloaded")
        if self.mpp <= 0 or self.size_bytes < 0:
            raise ValueError(f"'{self.key}' has an impossible pixel size or file size")

    @property
    def available(self) -> bool:
        """Whether it can be loaded now."""
        return self.state is EntryState.READY

    @property
    def makes_masks(self) -> bool:
        """Whether `load_model` can load it."""
        return self.task is Task.MASKS

    @property
    def note(self) -> str:
        """What its user should know, as a sentence; "" when there is nothing."""
        text = self.history.get("checksum", "")
        return f"No checksum: {text}." if text else ""

    @property
    def default_classes(self) -> TissueClasses:
        """The classes that it segments unless others are asked for."""
        return self.classes or COLORECTAL


@dataclass(frozen=True)
class Offer:
    """What a download would bring, for the question before it.

    Parameters
    ----------
    entry : ModelEntry
    files : tuple of RemoteFile
    """

    entry: ModelEntry
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class ModelLibrary:
    """The models of this computer. Listing never uses the network.

    Parameters
    ----------
    remote : Remote, optional
        Where files are downloaded from; the hub by default.
    """

    def __init__(self, remote: Remote | None = None) -> None:
        self._remote = remote

    def entries(self) -> list[ModelEntry]:
        """Return the bundled models, the user's own models and every known encoder."""
        return [*_models(), *_encoders()]

    def entry(self, key: str) -> ModelEntry:
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
        """Ask the host what a download would bring; uses the network.

        Raises
        ------
        ModelError
            When it can't be downloaded, or the host can't be reached; says which files to put
            where instead.
        """
        entry = self.entry(key)
        card = card_titled(entry.key)
        if card is None or not card.repository:
            raise ModelError(f"'{entry.title}' can't be downloaded", remedy=entry.reason or None)
        found: list[RemoteFile] = []
        try:
            for names in card.needed:
                options = (self._get_remote().find(card.repository, name) for name in names)
                file = next((option for option in options if option is not None), None)
                if file is None:
                    raise ModelError(f"{card.repository} has no file '{names[0]}'")
                found.append(file)
            for name in card.optional:
                extra = self._get_remote().find(card.repository, name)
                if extra is not None:
                    found.insert(0, extra)
        except ModelError as error:
            raise _with_advice(error, card) from error
        return Offer(entry, tuple(found))

    def download(self, offer: Offer) -> Generator[DownloadProgress, None, None]:
        """Download what was offered; closing the generator keeps what has arrived.

        Raises
        ------
        ModelError
            As `fetch` does, with the files to put where instead.
        """
        card = card_titled(offer.entry.key)
        if card is None:
            raise ModelError(f"'{offer.entry.title}' can't be downloaded")
        try:
            yield from fetch(self._get_remote(), list(offer.files), folder_of(card))
        except ModelError as error:
            raise _with_advice(error, card) from error

    def remove(self, key: str) -> None:
        """Remove a user's model or encoder, or the downloaded files of a known encoder.

        Raises
        ------
        ModelError
            When the user may not remove it, or the disk refuses.
        """
        entry = self.entry(key)
        if not entry.removable or entry.path is None:
            raise ModelError(why_not_remove(entry))
        try:
            if entry.path.is_dir():
                # Renamed first: if deleting is interrupted, half an encoder must not be listed.
                sweep(entry.path.parent)
                hidden = entry.path.with_name(temporary_prefix("removed") + entry.path.name)
                entry.path.rename(hidden)
                shutil.rmtree(hidden)
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


def list_models() -> list[ModelEntry]:
    """Return the entries that `load_model` can load, or could once they are installed.

    Encoders whose weights the user has to provide are left out until the files are on this
    computer: before that, there is no name to load them by.
    """
    entries = ModelLibrary().entries()
    return [entry for entry in entries if entry.task is Task.MASKS and entry.name]


def list_promptable_models() -> list[ModelEntry]:
    """Return the shipped and the user's own models for points and boxes.

    A SAM is loaded by its name (`sam:FOLDER`) and not listed.
    """
    return [entry for entry in _models() if entry.task is Task.PROMPTS]


def models_folder() -> Path:
    """Return the folder of the user's own model files; it may not exist yet."""
    return user_data_dir() / "models"


def shipped_file(key: str) -> Path:
    """Return the path of a shipped model of tissue classes, by its key."""
    return bundled_folder() / SHIPPED_FILES[key]


def why_not_remove(entry: ModelEntry) -> str:
    """Return why an entry can't be removed, as a sentence; "" when it can."""
    if entry.removable:
        return ""
    if entry.kind is Kind.BUNDLED:
        return "The bundled model belongs to the plugin and can't be removed."
    if entry.path is not None:
        return "It is in the hub's cache, which other programs use: remove it with hf cache rm."
    return "It is not on this computer."


def _models() -> list[ModelEntry]:
    # what begins with a dot is being written, or is macOS's
    own = sorted(models_folder().glob("[!.]*.safetensors"))
    return [
        _bundled(),
        _shipped(
            BUNDLED_TISSUE, BUNDLED_TISSUE, shipped_file(BUNDLED_TISSUE), Task.MASKS,
            "Colorectal tissue",
            "The default for tissue: nine colorectal classes. For research use only.",
        ),
        _shipped(
            BUNDLED_SKIN, BUNDLED_SKIN, shipped_file(BUNDLED_SKIN), Task.MASKS,
            "Skin sample from 88 tags",
            "Epidermis, keratin, dermis and glass, trained from the tags of 88 tiles of the sample "
            "slide itself: it shows what tags can do, and knows no other skin.",
        ),
        _shipped(
            BUNDLED_PROMPTABLE, BUNDLED, bundled_folder() / HINT_MODEL_FILE, Task.PROMPTS,
            "Points and boxes", "The bundled model for Smart select. For research use only.",
        ),
        *(_model_file(path) for path in own),
    ]  # fmt: skip


def _encoders() -> list[ModelEntry]:
    return [
        *(_own_encoder(path) for path in _own_encoder_folders()),
        *(_encoder(card) for card in CARDS if not card.is_bundled),
    ]


def _bundled() -> ModelEntry:
    card = next(card for card in CARDS if card.is_bundled)
    files = [bundled_folder() / n for n in (CONFIG_FILE, TOKENIZER_FILE, BUNDLED_WEIGHTS_FILE)]
    present = all(file.is_file() for file in files)
    return ModelEntry(
        BUNDLED, BUNDLED, card.title,
        "Nine colorectal tissue classes, or any words that you type. For research use only.",
        Kind.BUNDLED, EntryState.READY if present else EntryState.DAMAGED,
        "" if present else _REINSTALL, card.license, card.origin, classes=COLORECTAL,
        size_bytes=sum(file.stat().st_size for file in files if file.is_file()),
        path=bundled_folder(),
    )  # fmt: skip


def _shipped(
    key: str, name: str, path: Path, task: Task, title: str, description: str
) -> ModelEntry:
    """Return the entry of a shipped model file; `title` is for the case that it is missing."""
    if not path.is_file():
        return ModelEntry(
            key, name, title, description, Kind.BUNDLED, EntryState.DAMAGED, _REINSTALL,
            source="napari-plimseg", task=task,
        )  # fmt: skip
    return replace(
        _model_file(path), key=key, name=name, description=description, kind=Kind.BUNDLED,
        source="napari-plimseg", task=task, removable=False,
    )  # fmt: skip


def _model_file(path: Path) -> ModelEntry:
    """Return what a model file says about itself, or why it can't be used."""
    size = 0
    try:
        size = path.stat().st_size if path.exists() else 0  # a link may lead nowhere
        header = read_header(path)
    except (PlimsegError, OSError) as error:
        return ModelEntry(
            path.stem, path.stem, path.stem, "A model file that can't be used.", Kind.OWN,
            EntryState.DAMAGED, str(error), size_bytes=size, path=path, removable=True,
        )  # fmt: skip
    lost = why_encoder_lost(header) or (_NO_MASKS if header.kind == "cams" else "")
    history = {
        "kind": header.kind,
        "encoder": without_path(header.encoder),
        "patch size": f"{header.patch_size} px",
        "training images": header.training_sha256[:12],
        "checksum": NO_CHECKSUM if header.format_version == 1 else "",
        **{f"made with {name}": version for name, version in header.versions.items()},
    }
    return ModelEntry(
        path.stem, path.stem, header.title or path.stem, _description(header), Kind.OWN,
        EntryState.PARTIAL if lost else EntryState.READY, lost, header.license,
        "trained or imported on this computer",
        task=Task.PROMPTS if header.kind == "hints" else Task.MASKS, classes=header.classes,
        mpp=header.mpp, size_bytes=size, path=path, scores=header.scores,
        history={what: text for what, text in history.items() if text}, removable=True,
        needs_place=(
            EncoderName.parse(header.encoder).form.place if why_encoder_lost(header) else ""
        ),
    )  # fmt: skip


def why_encoder_lost(header: ModelHeader) -> str:
    """Return why the encoder outside of a model file can't be found; "" when it can."""
    if header.network.get("backbone_inside") or header.network.get("frozen_inside"):
        return ""
    if is_known(header.encoder, header.encoder_sha256, header.encoder_identity):
        return ""
    error = missing_encoder(
        EncoderName.parse(header.encoder), header.encoder_sha256, header.encoder_identity, None
    )
    problem = error.problem[0].upper() + error.problem[1:]
    return f"{problem}. {error.remedy}"


def _description(header: ModelHeader) -> str:
    about = _about(header)
    return f"{about} No checksum: {NO_CHECKSUM}." if header.format_version == 1 else about


def _about(header: ModelHeader) -> str:
    encoder = without_path(header.encoder)
    if header.kind == "hints":
        return f"Objects from points and boxes, on {encoder}."
    how = "trained on" if header.kind == "segmentation" else "words on"
    text = f"Your own model, {how} {encoder}"
    if header.network.get("backbone", {}).get("architecture") == SMALL:
        text = "Your own fast model, distilled from a larger one"
    scores = ", ".join(f"{name} {value:.3g}" for name, value in header.scores.items())
    return f"{text}: {scores}." if scores else f"{text}."


def _own_encoder_folders() -> list[Path]:
    known = {folder_of(card) for card in CARDS if not card.is_bundled}
    found = sorted(config.parent for config in encoders_folder().glob(f"*/{CONFIG_FILE}"))
    return [p for p in found if p not in known and not p.name.startswith(".")]


def _own_encoder(folder: Path) -> ModelEntry:
    name = str(EncoderName("local-dir", place=str(folder)))
    size = sum(p.stat().st_size for p in folder.glob("*") if p.is_file())
    return ModelEntry(
        folder.name, name, folder.name, "An open_clip encoder: any words that you type.",
        Kind.OWN_ENCODER, EntryState.READY, license="its own", source="imported",
        size_bytes=size, path=folder, removable=True,
    )  # fmt: skip


def _encoder(card: EncoderCard) -> ModelEntry:
    folder, broken, missing, loadable = (
        folder_of(card), damage(card), missing_files(card), loadable_name(card),
    )  # fmt: skip
    cached = None
    if card.name.is_on_hub and missing and not broken:
        cached = cached_folder(card.repository, card.needed)
    here = folder.is_dir() and any(folder.iterdir())
    downloadable = bool(card.repository and set(missing) - set(card.by_hand)) and not broken
    if broken:
        state, reason = EntryState.DAMAGED, broken
    elif loadable is not None or cached is not None:
        state, reason, downloadable = EntryState.READY, "", False
    elif here:
        state, reason = EntryState.PARTIAL, _advice(card, missing)
        if is_begun(card):
            reason = f"The download is not finished: press Download to resume it. {reason}"
    else:
        state, reason = EntryState.NOT_HERE, _advice(card, missing)
        if downloadable:
            reason = f"Download it in PLIMSeg Models. Or: {reason}"
    what = "any words that you type" if card.reads_text else "vision-only, for training"
    name = loadable or (card.name if card.name.is_complete else "")
    size = f" About {card.megabytes / 1000:.1f} GB to download." if downloadable else ""
    return ModelEntry(
        key=card.title, name=str(name), title=card.title,
        description=f"{card.architecture}: {what}.{size}", kind=Kind.ENCODER, state=state,
        reason=reason, license=card.license, source=card.origin,
        page=f"{HUB_PAGE}/{card.repository}" if card.repository else "", gated=card.gated,
        task=Task.MASKS if card.reads_text else Task.TRAINING, mpp=card.mpp,
        size_bytes=bytes_here(card),
        path=folder if here else cached, downloadable=downloadable, removable=here,
    )  # fmt: skip


def _advice(card: EncoderCard, missing: tuple[str, ...]) -> str:
    """Return which files to put where, for people without a network or with a gated model."""
    names = " and ".join(missing)
    where = f"from {HUB_PAGE}/{card.repository} " if card.repository else f"({card.origin}) "
    if card.by_hand and set(missing) <= set(card.by_hand):
        where = "from its authors' program "
    return f"Put {names} {where}into the folder {folder_of(card)}."


def _with_advice(error: ModelError, card: EncoderCard) -> ModelError:
    missing = missing_files(card)
    advice = f"Or by hand: {_advice(card, missing)}" if missing else ""
    remedy = " ".join(part for part in (error.remedy, advice) if part)
    return ModelError(error.problem, path=error.path, remedy=remedy or None)
