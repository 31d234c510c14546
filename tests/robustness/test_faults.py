"""The short forms of `make faults` and `make privacy`, and that their searches find things."""

from __future__ import annotations

import base64
import gzip
import io
import sys
import urllib.parse
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.campaigns import canaries
from tests.campaigns.canaries import GREEN, canaries_in, canary, leaks_in, write_slides
from tests.support.campaigns import campaign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

needs_forks = pytest.mark.skipif(sys.platform != "linux", reason="limits and forks are Linux's")


@needs_forks
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_faults_in_short() -> None:
    table = campaign("faults", "--short")
    for row in ("kill segment", "kill train", "full disk", "flipped bits", "power failure"):
        assert row in table


@needs_forks
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_privacy_in_short() -> None:
    assert "connections" in campaign("privacy", "--short")


@needs_forks
@pytest.mark.timeout(300)
@pytest.mark.parametrize("guard", ["checksum of JSON", "a full disk is our error"])
def test_a_missing_guard_is_noticed(guard: str) -> None:
    table = campaign("faults", "--self-test", "--only", guard)
    assert f"guard {guard}: noticed" in table


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.txt", data)
    return file.getvalue()


@pytest.mark.parametrize(
    "hide",
    [
        bytes,
        lambda data: data.decode().encode("utf-16-le"),
        lambda data: data.decode().encode("utf-16-be"),
        lambda data: data.decode().encode("utf-32"),
        lambda data: b"header" + zlib.compress(data) + b"tail",
        gzip.compress,
        _zipped,
        lambda data: b'{"a": "' + base64.b64encode(b"some words before " + data) + b'"}',
        lambda data: base64.urlsafe_b64encode(zlib.compress(data * 3)),
        lambda data: data.hex().encode(),
        lambda data: urllib.parse.quote(data).encode(),
        lambda data: zlib.compress(gzip.compress(data)),
        lambda data: data.upper(),
    ],
)
def test_a_canary_is_found_however_it_is_packed(hide: Callable[[bytes], bytes]) -> None:
    packed = hide(f"patient: {canary('name')}".encode())
    assert canaries_in(b"\1\2\3" + packed + b"\4") or canaries_in(packed)
    assert not canaries_in(hide(b"patient: nobody in particular, no name"))


def test_every_field_of_a_slide_is_found_and_its_label(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides")
    count, leaks = leaks_in(tmp_path / "slides")
    assert count >= len(slides)
    fields = {leak.field for leak in leaks}
    wanted = {"artist", "xmp", "patient", "barcode", "omelastname", "zarrpatient", "pngitext"}
    assert wanted | {"exifartist", "qpslideid", "label image"} <= fields
    assert {leak.file for leak in leaks if leak.field == "label image"} == {
        "case-2.svs",
        "case-7.qptiff",
    }


def test_a_label_in_a_report_is_found(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 50, 3), GREEN, np.uint8)).save(file, "JPEG")
    report = tmp_path / "report.html"
    report.write_text(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
    )
    assert canaries.shows_label(report)
    report.write_text("<p>nothing</p>")
    assert not canaries.shows_label(report)
