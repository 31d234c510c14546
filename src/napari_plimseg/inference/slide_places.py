"""Where the slides of a list are, without a path in the list.

A folder of results is passed on, and the folders of slides are named after patients and users. So
a list names a slide inside its folder by the relative path, and any other by a digest. The paths
behind the digests are known to this user on this computer only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path, PurePosixPath
from typing import Any

import filelock

from napari_plimseg.errors import StoreError
from napari_plimseg.files import user_data_dir, write_json
from napari_plimseg.reading import read_json

_FILE = "slide_places.json"
_LOCK_SECONDS = 5.0


class SlidePlaces:
    """Translates paths of slides to what a list may say about them, and back.

    Parameters
    ----------
    folder : Path
        The folder of the list.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._known: dict[Path, str] = {}

    def place_of(self, path: Path) -> str:
        """Return a slide's place: a relative path in the folder, or "elsewhere:" and a digest.

        Raises
        ------
        OSError
            When the user's data folder can't be written.
        """
        if path not in self._known:
            if path.is_relative_to(self._folder):
                self._known[path] = path.relative_to(self._folder).as_posix()
            else:
                self._known[path] = f"elsewhere:{_remember(path)}"
        return self._known[path]

    def path_of(self, place: str, name: str) -> Path:
        """Return the path of a slide.

        Parameters
        ----------
        place : str
            From `place_of`, perhaps on another computer.
        name : str
            Its file name. If the place is not known here, a slide of that name in the folder or
            beside it is taken; else the path leads nowhere.

        Raises
        ------
        ValueError
            When the place is not in the folder.
        """
        kind, _, digest = place.partition(":")
        if kind != "elsewhere":
            inside = PurePosixPath(place)
            if inside.is_absolute() or ".." in inside.parts or Path(place).is_absolute():
                raise ValueError(f"'{place}' is not in the folder")
            return self._folder / inside
        if not digest.isalnum() or Path(name).name != name:
            raise ValueError("a digest and a file name are expected")
        known = _register().get("paths", {}).get(digest)
        beside = (self._folder / name, self._folder.parent / name)
        path = Path(known) if known else next((p for p in beside if p.exists()), None)
        if path is None:  # two lost slides of one name stay two
            path = self._folder / digest[:8] / name
        self._known[path] = place
        return path


def _register() -> dict[str, Any]:
    try:
        content = read_json(user_data_dir() / _FILE, StoreError)
    except StoreError:
        return {}  # damaged or not written yet: slides are looked for beside the list
    paths = content.get("paths") if isinstance(content, dict) else None
    if not isinstance(paths, dict) or not isinstance(content.get("salt"), str):
        return {}
    return {"salt": content["salt"], "paths": {str(k): str(v) for k, v in paths.items()}}


def _remember(path: Path) -> str:
    folder = user_data_dir()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / f".{_FILE}.lock", timeout=_LOCK_SECONDS):
            register = _register() or {"salt": secrets.token_hex(16), "paths": {}}
            # without the salt, a path could be found by trying likely ones
            text = json.dumps([register["salt"], os.fspath(path)])
            digest = hashlib.sha256(text.encode()).hexdigest()[:32]
            if register["paths"].get(digest) != str(path):
                register["paths"][digest] = str(path)
                write_json(folder / _FILE, register)
            return digest
    except filelock.Timeout as error:
        raise OSError("another program keeps the list of places") from error
