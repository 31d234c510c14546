"""Reviewed regions survive closing, damage and a second program."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.errors import ConfigError, StoreError
from napari_plimseg.results.analysis import review_log
from napari_plimseg.results.analysis.review_log import ReviewedRegion, ReviewLog
from tests.support.masks import info_for
from tests.support.stores import written_store

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.results.mask_store import MaskStore

ONE = ReviewedRegion(1, 2, 30, 40, "2026-01-01T00:00:00+00:00")
TWO = ReviewedRegion(100.5, 0, 3, 4)


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    mask = np.ones((40, 40), np.uint8)
    with written_store(tmp_path / "a.plimseg", info_for(mask), mask, mask) as store:
        return store


def test_regions_are_there_again(store: MaskStore) -> None:
    log = ReviewLog(store)
    assert log.regions == ()
    log.add(ONE)
    log.add(TWO)
    assert ReviewLog(store).regions == (ONE, TWO)
    log.remove(ONE)
    log.remove(ONE)
    assert log.regions == ReviewLog(store).regions == (TWO,)


def test_two_programs_lose_nothing_of_each_other(store: MaskStore) -> None:
    first, second = ReviewLog(store), ReviewLog(store)
    first.add(ONE)
    second.add(TWO)
    assert second.regions == (ONE, TWO)


def test_the_region_of_mask_pixels_is_in_level_0_pixels_and_dated(store: MaskStore) -> None:
    region = ReviewedRegion.of_mask_pixels(store.info, 1, 2, 3, 4)
    assert (region.y, region.x, region.height, region.width) == (4, 8, 12, 16)
    reviewed = datetime.datetime.fromisoformat(region.time)
    assert abs(datetime.datetime.now(datetime.UTC) - reviewed) < datetime.timedelta(minutes=5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: text.replace("30", "31"),
        lambda text: "[]",
    ],
)
def test_a_damaged_log_is_set_aside_and_said(store: MaskStore, damage) -> None:  # type: ignore[no-untyped-def]
    log = ReviewLog(store)
    log.add(ONE)
    broken = damage(log.path.read_text("utf-8"))
    log.path.write_text(broken, "utf-8")
    with pytest.raises(StoreError, match=r"was renamed.*mark the regions again"):
        ReviewLog(store)
    assert log.path.with_name("reviewed.json.damaged").read_text("utf-8") == broken
    assert ReviewLog(store).regions == ()


def test_a_full_disk_leaves_the_log_as_it_was(
    store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ReviewLog(store)
    log.add(ONE)

    def refuse(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review_log, "write_checked", refuse)
    with pytest.raises(StoreError, match="disk is full"):
        log.add(TWO)
    assert log.regions == ReviewLog(store).regions == (ONE,)


@pytest.mark.parametrize("values", [(0, 0, 0, 1), (0, 0, 1, -1), (0, float("nan"), 1, 1)])
def test_an_impossible_region_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="reviewed region"):
        ReviewedRegion(*values)
