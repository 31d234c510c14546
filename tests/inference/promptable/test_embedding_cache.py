from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_plimseg.inference.promptable.embedding_cache import EmbeddingCache, PatchKey
from napari_plimseg.models.promptable.dual_decoder import Encoded

if TYPE_CHECKING:
    from pathlib import Path

KEY = PatchKey("slide", 2.0, 64, 128, 512, "encoder")


class Encoder:
    """Counts how often it is asked."""

    def __init__(self, seed: int = 0, cells: int = 4) -> None:
        self.seed, self.cells, self.asked = seed, cells, 0

    def __call__(self) -> Encoded:
        self.asked += 1
        generator = torch.Generator().manual_seed(self.seed)
        return Encoded(
            torch.randn(1, 8, self.cells, self.cells, generator=generator),
            torch.randn(1, 2, 2 * self.cells, 2 * self.cells, generator=generator),
        )


def same(a: Encoded, b: Encoded) -> bool:
    return torch.equal(a.final, b.final) and torch.equal(a.early, b.early)


def test_what_is_known_has_equal_bits_from_memory_and_from_the_disk(tmp_path: Path) -> None:
    encoder, cache = Encoder(), EmbeddingCache(tmp_path)
    assert KEY not in cache
    first = cache.get(KEY, encoder)
    assert KEY in cache
    assert same(first, cache.get(KEY, encoder))
    later = EmbeddingCache(tmp_path)
    assert KEY in later
    assert same(first, later.get(KEY, encoder))
    assert encoder.asked == 1


@pytest.mark.parametrize(
    "change",
    [
        {"slide": "other"}, {"downsample": 2.0000001}, {"y": 0}, {"x": 0}, {"side": 256},
        {"encoder": "other"}, {"preprocessing": 99},
    ],
)  # fmt: skip
def test_another_patch_encoder_or_version_is_another_entry(change: dict[str, object]) -> None:
    cache, first, second = EmbeddingCache(), Encoder(0), Encoder(1)
    other = replace(KEY, **change)
    assert not same(cache.get(KEY, first), cache.get(other, second))
    assert (first.asked, second.asked) == (1, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:],
        lambda content: b"no maps at all" * 40,
    ],
)
def test_a_damaged_entry_is_removed_and_computed_again(tmp_path: Path, damage: object) -> None:
    encoder = Encoder()
    first = EmbeddingCache(tmp_path).get(KEY, encoder)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    again = EmbeddingCache(tmp_path).get(KEY, encoder)
    assert encoder.asked == 2
    assert same(first, again)
    EmbeddingCache(tmp_path).get(KEY, encoder)
    assert encoder.asked == 2


def test_a_pipe_in_the_place_of_an_entry_is_not_waited_for(tmp_path: Path) -> None:
    encoder = Encoder()
    EmbeddingCache(tmp_path).get(KEY, encoder)
    (entry,) = tmp_path.iterdir()
    entry.unlink()
    os.mkfifo(entry)
    EmbeddingCache(tmp_path).get(KEY, encoder)
    assert encoder.asked == 2


def test_disk_is_bounded_and_what_was_used_last_stays(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path).get(KEY, Encoder())
    (file,) = tmp_path.iterdir()
    entry = file.stat().st_size
    cache = EmbeddingCache(tmp_path, disk_bytes=4 * entry)
    keys = [replace(KEY, y=number) for number in range(6)]
    encoder = Encoder()
    for key in keys:
        cache.get(key, encoder)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * entry
    asked = encoder.asked
    cache.get(keys[5], encoder)
    assert encoder.asked == asked
    on_disk = EmbeddingCache(tmp_path)
    assert [key in on_disk for key in keys] == [False, False, True, True, True, True]
    cache.clear()
    assert not list(tmp_path.iterdir())
    assert keys[5] not in cache


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    maps = EmbeddingCache(None).get(KEY, Encoder())
    cache = EmbeddingCache(None, memory_bytes=3 * (maps.final.nbytes + maps.early.nbytes))
    keys = [replace(KEY, y=number) for number in range(4)]
    encoder = Encoder()
    for key in keys[:3]:
        cache.get(key, encoder)
    cache.get(keys[0], encoder)  # used now
    cache.get(keys[3], encoder)
    assert [key in cache for key in keys] == [True, False, True, True]


def test_a_disk_that_cannot_be_written_costs_nothing_but_speed(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    encoder, cache = Encoder(), EmbeddingCache(blocked)
    first = cache.get(KEY, encoder)
    assert same(first, cache.get(KEY, encoder))
    assert encoder.asked == 1
