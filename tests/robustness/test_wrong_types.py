"""Class lists, descriptions of masks, manifests and lists of slides with wrong values anywhere."""

from __future__ import annotations

import contextlib
import copy
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference import Cohort
from napari_plimseg.results import MaskInfo, MaskStore, read_checked, write_checked
from napari_plimseg.tissue import COLORECTAL, TissueClasses
from tests.support import slides as factory
from tests.support.masks import info_for
from tests.support.stores import written_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WRONG: tuple[Any, ...] = (
    *(None, 7, 0, -1, 1.5, 1e300, 10**30, True),
    *("x", "\0", "x" * 5_000, [], {}, [None], {"a": None}, [[[]]]),
)
MASK = np.ones((64, 64), np.uint8)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inner: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = enumerate(value)
    for key, one in inner:
        yield from places(one, (*at, key))


def with_wrong_values(content: Any) -> Iterator[Any]:
    """Yield copies with each value replaced by each wrong one, and with each key removed."""
    for at in places(content):
        for wrong in (*WRONG, ...):
            if not at:
                yield wrong
                continue
            changed = copy.deepcopy(content)
            inner = changed
            for key in at[:-1]:
                inner = inner[key]
            if wrong is ...:
                del inner[at[-1]]
            else:
                inner[at[-1]] = wrong
            yield changed


def two_classes(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"classes": content["classes"][:2]}


DICTS: dict[str, tuple[Any, Callable[[Any, Path], object]]] = {
    "classes": (
        two_classes(COLORECTAL.to_dict()),
        lambda content, path: TissueClasses.from_dict(content, path=path),
    ),
    "mask info": (
        (info := info_for(MASK).to_dict()) | {"tissue": two_classes(info["tissue"])},
        lambda content, path: MaskInfo.from_dict(content, path=path),
    ),
}


@pytest.mark.parametrize("name", DICTS)
def test_plain_data(name: str, tmp_path: Path) -> None:
    content, build = DICTS[name]
    for changed in with_wrong_values(content):
        with contextlib.suppress(PlimsegError):
            build(changed, tmp_path / "a.json")


@pytest.mark.parametrize("file", ["manifest.json", "journal.json"])
def test_stores(file: str, tmp_path: Path) -> None:
    path = tmp_path / "a.plimseg"
    written_store(path, info_for(MASK), MASK, MASK).close()
    content = read_checked(path / file, path)
    if file == "manifest.json":
        content["info"]["tissue"] = two_classes(content["info"]["tissue"])
    # every fourth is enough: opening a store takes milliseconds
    for changed in itertools.islice(with_wrong_values(content), 0, None, 4):
        if changed is ...:
            continue
        write_checked(path / file, changed)
        with contextlib.suppress(PlimsegError), MaskStore.open(path) as store:
            store.damage()


def test_lists_of_slides(tmp_path: Path) -> None:
    slide = factory.write_picture(tmp_path / "a.png", factory.tissue(64, 64))
    folder = tmp_path / "results"
    folder.mkdir()
    with Cohort.open(folder) as cohort:
        cohort.choose("bundled", ("csv",))
        cohort.add(slide, mpp=0.5)
    content = read_checked(folder / "cohort.json", folder)
    for changed in with_wrong_values(content):
        if changed is ...:
            continue
        write_checked(folder / "cohort.json", changed)
        with contextlib.suppress(PlimsegError), Cohort.open(folder) as cohort:
            assert 0 <= cohort.fraction <= 1
