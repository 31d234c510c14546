"""Import models from files and folders: checked first, then copied completely or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError, PlimsegError, disk_problem, user_path
from napari_plimseg.files import (
    atomic_write,
    sha256,
    sweep,
    sync_folder,
    temporary_prefix,
)
from napari_plimseg.models import library
from napari_plimseg.models.encoders import (
    CONFIG_FILE,
    TOKENIZER_FILES,
    WEIGHT_FILES,
    WEIGHT_SUFFIXES,
    EncoderName,
    card_titled,
    encoders_folder,
    folder_of,
    is_encoder_name,
    is_known,
    known_encoders,
    loadable_name,
    remember,
    weight_file,
)
from napari_plimseg.models.trial import try_loading
from napari_plimseg.models.weights import read_shapes

if TYPE_CHECKING:
    from collections.abc import Generator

_RESERVE = 200 << 20


def import_model(place: str | Path) -> Generator[str, None, str]:
    """Import a model file, a folder with model files, or a folder of open_clip.

    Parameters
    ----------
    place : str or Path
        Or an encoder's name with its place, such as `timm:vit_small_patch16_224=FILE`: it stays
        there, and model files that need it find it.

    Yields
    ------
    str
        The current step, for people.

    Returns
    -------
    str
        The key of the new entry, the last one if there are several.

    Raises
    ------
    ModelError
        When it is damaged, not a model, or in the library already; then nothing is changed.
    """
    if is_encoder_name(str(place)):
        return (yield from _name_encoder(EncoderName.parse(str(place))))
    place = user_path(place)
    if place.is_dir():
        return (yield from _import_folder(place))
    if not place.is_file():
        raise ModelError("the file does not exist", path=place)
    if place.suffix == ".safetensors":
        digest = yield from _try_model(place)
        yield f"Copying {place.name}…"
        return _copy_model(place, digest)
    if place.suffix in WEIGHT_SUFFIXES:
        yield f"Checking {place.name}…"
        read_shapes(place)
        raise ModelError(
            "these are weights without a model's description",
            path=place,
            remedy="If they belong to an encoder in the list, select it and import them there.",
        )
    raise ModelError(
        "is not a model file",
        path=place,
        remedy="Choose a .safetensors file saved by this program, or an encoder's folder.",
    )


def import_weights(title: str, place: str | Path) -> Generator[str, None, str]:
    """Import the weights of a known encoder, or name those that a model needs.

    Parameters
    ----------
    title : str
        The encoder's key; or that of a model whose encoder is not found. That encoder stays where
        it is.
    place : str or Path
        A weight file, or a folder with all files of the encoder.

    Yields
    ------
    str
        The current step, for people.

    Raises
    ------
    ModelError
        When they are not those of the encoder; then nothing is changed.
    """
    place = user_path(place)
    card = card_titled(title)
    if card is None:
        entry = library.ModelLibrary().entry(title)
        if not entry.needs_place or entry.path is None:
            raise ModelError(f"there is no encoder '{title}' to import weights for")
        return (yield from _name_encoder_of(entry.path, entry.key, place))
    is_file = card.name.form.place == "FILE"
    if is_file and place.is_dir():
        names = [*card.needed[-1], *(p.name for p in sorted(place.iterdir()))]
        found = (place / n for n in names if Path(n).suffix in WEIGHT_SUFFIXES)
        weights = next((p for p in found if p.is_file()), None)
        if weights is None:
            raise ModelError("the folder has no weights", path=place)
        place = weights
    if is_file:
        name, chosen = card.name.at(place), [place]
        beside = {n for names in card.needed[:-1] for n in names} | {"config.json"}
        chosen += [place.with_name(n) for n in sorted(beside) if place.with_name(n).is_file()]
    else:
        folder = place if place.is_dir() else place.parent
        # a hub repository's files are tried from the folder that they are copied from
        name = EncoderName("local-dir", place=str(folder))
        if not card.name.is_on_hub:
            name = card.name.at(folder)
        known = {n for names in card.needed for n in names}
        wanted = known | {*card.optional, *card.by_hand}
        chosen = [folder / n for n in sorted(wanted) if (folder / n).is_file()]
    yield f"Checking {place.name}…"
    yield from _try(str(name), "encoder", place)
    yield f"Copying {place.name}…"
    _copy_folder(chosen, folder_of(card))
    _remember_copy(name, loadable_name(card))
    return card.title


def _name_encoder(name: EncoderName) -> Generator[str, None, str]:
    """Load an encoder from a place of the user's, which puts it into the list of known ones."""
    if name.path is None:
        raise ModelError(f"'{name}' does not say where its weights are")
    name = name.at(name.path.absolute())
    yield f"Checking {name.weights.name}…"
    yield from _try(str(name), "encoder", name.weights)
    return str(name.without_path)


def _name_encoder_of(model: Path, key: str, place: Path) -> Generator[str, None, str]:
    """Name the encoder of a model; any other weights are refused by their hash."""
    from napari_plimseg.models.model_file import read_header

    header = read_header(model)
    name = EncoderName.parse(header.encoder).without_path
    if name.form.place == "FOLDER" and place.is_file() and name.scheme != "sam":
        place = place.parent
    name = name.at(place)
    weights = weight_file(name)
    if weights is None:
        raise ModelError("no weights of this encoder are there", path=place)
    yield f"Checking {weights.name}…"
    found, wanted = sha256(weights), header.encoder_sha256
    if wanted and found != wanted:
        raise ModelError(
            f"these are not the weights of the encoder of '{key}' (it needs {wanted[:12]}…, and "
            f"these are {found[:12]}…)",
            path=weights,
            remedy="Choose the weights that it was made with.",
        )
    yield from _name_encoder(name)
    if not is_known(header.encoder, header.encoder_sha256, header.encoder_identity):
        raise ModelError(
            "these are not the weights of its encoder",
            path=weights,
            remedy=f"'{key}' was made with others.",
        )
    return key


def _import_folder(folder: Path) -> Generator[str, None, str]:
    if (folder / CONFIG_FILE).is_file():
        yield f"Checking {folder.name}…"
        name = EncoderName("local-dir", place=str(folder.absolute()))
        yield from _try(str(name), "encoder", folder)
        yield f"Copying {folder.name}…"
        chosen = [folder / f for f in WEIGHT_FILES if (folder / f).is_file()][:1]
        # what the loading reads, and nothing else that a stranger has put there
        chosen += [folder / f for f in (CONFIG_FILE, *TOKENIZER_FILES) if (folder / f).is_file()]
        target = _fresh(encoders_folder() / folder.name)
        _copy_folder(chosen, target)
        _remember_copy(name, name.at(target))
        return target.name
    files = [p for p in sorted(folder.glob("[!.]*.safetensors")) if _is_model(p)]
    if not files:
        raise ModelError(
            "the folder has no model",
            path=folder,
            remedy=f"Choose one with a model file (.safetensors), or with {CONFIG_FILE} and "
            f"{WEIGHT_FILES[0]}.",
        )
    digests = []
    for file in files:  # all, before the first is copied
        digests.append((yield from _try_model(file)))
    key = ""
    for file, digest in zip(files, digests, strict=True):
        yield f"Copying {file.name}…"
        key = _copy_model(file, digest)
    return key


def _remember_copy(source: EncoderName, copy: EncoderName | None) -> None:
    """Let model files find an encoder in its copy when the place it came from is gone."""
    if copy is not None:
        for known in known_encoders():
            if known.name == str(source.at(source.weights.absolute())):
                remember(copy, known.weights_sha256, known.identities)


def _is_model(path: Path) -> bool:
    from napari_plimseg.models.model_file import read_header

    try:
        read_header(path)
    except PlimsegError:
        return False
    return True


def _try_model(path: Path) -> Generator[str, None, str]:
    """Check a model file, and return the digest of what was checked."""
    from napari_plimseg.models.model_file import open_model_file

    yield f"Checking {path.name}…"
    header = open_model_file(path).header  # what is wrong with it takes no process to find
    kind = "prompts" if header.kind == "hints" else "masks"
    if library.why_encoder_lost(header):  # it may come later; the list says so until then
        kind = "file"
    digest = sha256(path)
    yield from _try(str(path.absolute()), kind, path)
    return digest


def _try(name: str, kind: str, place: Path) -> Generator[str, None, None]:
    """Load it in a process of its own, which it may crash or fill."""
    for _ in try_loading(name, kind, place):
        yield f"Checking {place.name}…"


def _copy_model(source: Path, digest: str) -> str:
    folder = library.models_folder()
    size = source.stat().st_size
    for other in folder.glob("[!.]*.safetensors"):
        if other.stat().st_size == size and sha256(other) == digest:
            raise ModelError("is in the library already", path=source,
                             remedy=f"It is called '{other.stem}'.")  # fmt: skip
    target = _fresh(folder / source.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(folder, size)
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
            if sha256(temporary) != digest:
                raise ModelError("changed while it was copied", path=source,
                                 remedy="Import it again when it is complete.")  # fmt: skip
    except OSError as error:
        raise _disk_error(error, folder) from error
    return target.stem


def _copy_folder(files: list[Path], target: Path) -> None:
    """Copy all files into a folder or none; other files in it stay."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_room(target.parent, sum(file.stat().st_size for file in files))
        sweep(target.parent)
        prefix = temporary_prefix("import")
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as name:
            for file in files:
                with atomic_write(Path(name) / file.name) as temporary:
                    shutil.copyfile(file, temporary)
            target.mkdir(exist_ok=True)
            # weights last: without them the folder is not mistaken for a model
            order = sorted(files, key=lambda file: file.suffix in WEIGHT_SUFFIXES)
            for file in order:
                (Path(name) / file.name).replace(target / file.name)
        sync_folder(target)
    except OSError as error:
        raise _disk_error(error, target.parent) from error


def _fresh(path: Path) -> Path:
    """Return an unused path: `glands`, `glands-2`, `glands-3`."""
    new, number = path, 2
    taken = {p.name.casefold() for p in path.parent.glob("*")}
    while new.name.casefold() in taken or new.stem.casefold() in library.RESERVED:
        new = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return new


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE:
        raise ModelError(
            f"the disk has {free >> 20} MB free and this needs {(needed + _RESERVE) >> 20} MB",
            remedy="Free some space and import it again.",
        )


def _disk_error(error: OSError, folder: Path) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(
            "the disk is full; nothing was imported", remedy="Free some space and try again."
        )
    problem, remedy = disk_problem(error)
    return ModelError(problem, path=folder, remedy=remedy)
