"""The encoders that the user has named once, found again by the hash of their weights.

A model file names an encoder outside of it by scheme, architecture and hash, never by a place,
because a file from somebody else must not choose what is read here. The place comes from this list:
a folder or file enters it when the user imports it or names it, on the command line, in a recipe or
in Python.

The list can be deleted at any time; encoders then have to be named again.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import filelock

from napari_plimseg.errors import ModelError
from napari_plimseg.files import sha256, user_data_dir, write_json
from napari_plimseg.models.encoders.cards import (
    CARDS,
    CONFIG_FILE,
    WEIGHT_FILES,
    EncoderName,
    encoders_folder,
    loadable_name,
)
from napari_plimseg.reading import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LIST_FILE = "known_encoders.json"
_LONGEST_LIST, _LONGEST_TEXT, _MOST_IDENTITIES = 1000, 4096, 8
_HASH = re.compile(r"[0-9a-f]{64}")
_WEIGHTS = {
    "local-dir": WEIGHT_FILES,
    "conch": ("pytorch_model.bin", "model.safetensors"),
    "keep": ("model.safetensors", "pytorch_model.bin"),
    "sam": ("model.safetensors", "pytorch_model.bin"),
}
"""In which files of a folder each scheme looks for weights, in its order."""


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder that was loaded from a place on this computer.

    Parameters
    ----------
    name : str
        With its place.
    weights_sha256 : str
        Of its weight file.
    identities : tuple of str
        By which model files of format version 1 know it: as an encoder, as a backbone.
    size, modified_ns : int
        Of the weight file when it was hashed.
    """

    name: str
    weights_sha256: str
    identities: tuple[str, ...] = ()
    size: int = 0
    modified_ns: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= _LONGEST_TEXT:
            raise ModelError("a known encoder has no name")
        if self.parsed.path is None:
            raise ModelError(f"'{self.parsed}' does not say where its weights are")
        hashes = (self.weights_sha256, *self.identities)
        if len(self.identities) > _MOST_IDENTITIES or not all(
            isinstance(h, str) and _HASH.fullmatch(h) for h in hashes
        ):
            raise ModelError(f"the known encoder '{self.parsed.without_path}' has no hash")
        if any(type(n) is not int or n < 0 for n in (self.size, self.modified_ns)):
            raise ModelError(f"the known encoder '{self.parsed.without_path}' has no size")

    @property
    def parsed(self) -> EncoderName:
        """Its name in parts."""
        return EncoderName.parse(self.name)

    @property
    def is_here(self) -> bool:
        """Whether its weights still seem to be where they were; their hash is not computed."""
        file = weight_file(self.parsed)
        return file is not None and (not self.size or file.stat().st_size == self.size)


def weight_file(name: EncoderName) -> Path | None:
    """Return the file of an encoder's weights, None when it is not there."""
    place = name.path
    if place is not None and place.is_dir():
        files = (place / file for file in _WEIGHTS.get(name.scheme, ()))
        place = next((file for file in files if file.is_file()), None)
    return place if place is not None and place.is_file() else None


def known_encoders() -> list[KnownEncoder]:
    """Return the list, the latest first; what is damaged in it counts as unknown."""
    try:
        content: dict[str, Any] = read_json(user_data_dir() / LIST_FILE, ModelError)
    except ModelError:
        return []
    rows = content.get("encoders")
    found = []
    for row in rows[:_LONGEST_LIST] if isinstance(rows, list) else ():
        with contextlib.suppress(ModelError, TypeError, KeyError):
            found.append(KnownEncoder(**{**row, "identities": tuple(row["identities"])}))
    return found


def remember(name: EncoderName, weights_sha256: str, identities: Iterable[str] = ()) -> None:
    """Put an encoder that was loaded from a place of the user's into the list.

    A list that can't be written changes nothing: the encoder has to be named again.

    Parameters
    ----------
    name : EncoderName
        With its place; others are found without the list.
    weights_sha256 : str
        Of its weight file.
    identities : iterable of str
        See `KnownEncoder`.
    """
    if name.path is None:
        return
    name = name.at(name.path.absolute())
    file = weight_file(name)
    try:
        facts = None if file is None else file.stat()
        new = KnownEncoder(
            str(name), weights_sha256, tuple(dict.fromkeys(identities)),
            0 if facts is None else facts.st_size, 0 if facts is None else facts.st_mtime_ns,
        )  # fmt: skip
        same = [old for old in known_encoders() if old.name == new.name]
        if same and same[0].weights_sha256 == weights_sha256:
            both = tuple(dict.fromkeys((*new.identities, *same[0].identities)))[:_MOST_IDENTITIES]
            new = replace(new, identities=both)
            if set(both) == set(same[0].identities) and same[0].modified_ns == new.modified_ns:
                return
        place = user_data_dir() / LIST_FILE
        place.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(place.with_suffix(".lock"), timeout=5):
            others = [other for other in known_encoders() if other.name != new.name]
            rows = [asdict(row) for row in (new, *others)[:_LONGEST_LIST]]
            write_json(place, {"version": 1, "encoders": rows})
    except (ModelError, OSError, filelock.Timeout):
        return


def is_known(encoder: str, weights_sha256: str, identity: str) -> bool:
    """Whether `find_encoder` would find an encoder, without hashing what is not in the list."""
    try:
        name = EncoderName.parse(encoder).without_path
    except ModelError:
        return True  # loading it says what is wrong with the name
    if name.is_complete:
        return True
    return next(_matching(name, weights_sha256, identity), None) is not None


def find_encoder(
    encoder: str, weights_sha256: str = "", identity: str = "", *, path: Path | None = None
) -> str:
    """Return the complete name of the encoder that a model file needs.

    Parameters
    ----------
    encoder : str
        As the header of the file has it. A place in it is ignored: only files of format version 1
        have one, and it is their author's.
    weights_sha256, identity : str
        As the header has them.
    path : Path, optional
        Of the model file, for messages.

    Raises
    ------
    ModelError
        When it is not known on this computer; says how to name it once.
    """
    name = EncoderName.parse(encoder).without_path
    if name.is_complete:
        return str(name)
    found = next(_matching(name, weights_sha256, identity), None)
    if found is None and weights_sha256:
        found = _installed(name, weights_sha256)
    if found is None:
        raise missing_encoder(name, weights_sha256, identity, path)
    return str(found)


def missing_encoder(
    name: EncoderName, weights_sha256: str, identity: str, path: Path | None
) -> ModelError:
    """Return the error for an encoder that is not known on this computer."""
    digits = f"weights {weights_sha256[:12]}…" if weights_sha256 else f"identity {identity[:12]}…"
    place = "FOLDER" if name.form.place == "FOLDER" else "FILE"
    named = f"{name.without_path}{'=' if name.architecture else ':'}{place}"
    return ModelError(
        f"it needs the encoder '{name.without_path}' ({digits}), whose place is not known",
        path=path,
        remedy=f"Name it once: plimseg models import {named}, or import the model, select it in "
        "PLIMSeg Models, and choose Import > Weights of the selected encoder.",
    )


def check_hash(name: str, found: str, wanted: str, *, path: Path | None = None) -> None:
    """Compare the hash of loaded weights with the one that a model file names.

    Raises
    ------
    ModelError
        When they differ.
    """
    if wanted and found and found != wanted:
        raise ModelError(
            f"it belongs to other weights of its encoder '{name}' (it needs {wanted[:12]}…, and "
            f"these are {found[:12]}…)",
            path=path,
            remedy="Name the weights that it was made with: plimseg models import NAME=FILE.",
        )


def _matching(name: EncoderName, weights_sha256: str, identity: str) -> Iterator[EncoderName]:
    """Yield known encoders with these weights, those of the same name first."""
    fitting = [
        one
        for one in known_encoders()
        if (one.weights_sha256 == weights_sha256 if weights_sha256 else identity in one.identities)
        and one.is_here
    ]
    fitting.sort(key=lambda one: one.parsed.without_path != name)
    for one in fitting:
        yield one.parsed


def _installed(name: EncoderName, weights_sha256: str) -> EncoderName | None:
    """Return an encoder in this program's own folders with these weights, which are hashed now."""
    cards = (loadable_name(card) for card in CARDS if card.name.scheme == name.scheme)
    folders = sorted(config.parent for config in encoders_folder().glob(f"[!.]*/{CONFIG_FILE}"))
    own = (EncoderName("local-dir", place=str(folder)) for folder in folders)
    for candidate in (*cards, *own):
        if candidate is None or candidate.path is None:
            continue
        if name.scheme == candidate.scheme and name.architecture == candidate.architecture:
            file = weight_file(candidate)
            if file is not None and sha256(file) == weights_sha256:
                return candidate
    return None
