from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_plimseg.errors import PlimsegError, SlideError, is_out_of_memory

if TYPE_CHECKING:
    from pathlib import Path


def chained(error: BaseException) -> PlimsegError:
    mine = PlimsegError("there is not enough memory")
    mine.__cause__ = error
    return mine


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("lib.so: failed to map segment from shared object"), True),
        (ImportError("lib.so: Cannot allocate memory"), True),
        (ImportError("No module named 'x'"), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (chained(MemoryError()), True),
        (chained(ValueError("damaged")), False),
        (PlimsegError("out of memory"), False),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
    ids=repr,
)
def test_memory_that_runs_out_is_recognized(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_message_does_not_quote_megabytes() -> None:
    error = SlideError("can't be opened: " + "x" * 10**6, path="a.svs", remedy="Copy it again.")
    assert len(str(error)) < 5_000
    assert str(error).endswith("…. Copy it again.")


def test_a_dot_is_named_as_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert str(SlideError("is lost", path=".")) == "slide 'inner': is lost."
    assert str(SlideError("is lost", path="..")) == f"slide '{tmp_path.name}': is lost."
    assert str(SlideError("is lost", path="/")) == "slide '/': is lost."
