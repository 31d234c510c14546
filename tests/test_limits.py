"""Limits on input: their values, how they are raised, and what errors say."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_plimseg import limits
from napari_plimseg.cli import main
from napari_plimseg.errors import ConfigError, ModelError, SlideError
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("picture-bytes=8GB", 8_000_000_000),
        ("picture-bytes=8GiB", 8 << 30),
        ("picture-bytes = 1.5 gb", 1_500_000_000),
        ("model-bytes=123456", 123_456),
        ("nesting=100", 100),
    ],
)
def test_values_have_units(text: str, value: int) -> None:
    assert limits.parse(text) == (text.partition("=")[0].strip(), value)


@pytest.mark.parametrize(
    "text",
    [
        *("pictures=8GB", "picture-bytes", "picture-bytes=", "picture-bytes=-1", "nesting=8GB"),
        *("picture-bytes=0", "nesting=501", "picture-bytes=1e9", "picture-bytes=8XB", "=", ""),
        *("picture-bytes=٣", "picture-bytes=" + "9" * 400, "picture-bytes=99999999999999999TB"),
    ],
)
def test_wrong_values_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="limit"):
        limits.parse(text)


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSEG_LIMITS", "nesting=10,picture-bytes=1GB")
    assert limits.get("nesting") == 10
    with limits.changed(["nesting=20"]):
        assert (limits.get("nesting"), limits.get("picture-bytes")) == (20, 1_000_000_000)
        child = subprocess.run(
            [
                sys.executable,
                "-c",
                "from napari_plimseg import limits; print(limits.get('nesting'))",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert child.stdout.strip() == "20"
    assert limits.get("nesting") == 10
    assert os.environ["PLIMSEG_LIMITS"] == "nesting=10,picture-bytes=1GB"


def test_errors_name_the_file_the_size_the_limit_and_the_way_out(tmp_path: Path) -> None:
    error = limits.exceeded(
        SlideError, "picture-bytes", 4_810_000_000, path=tmp_path / "a.png", what="it decodes to"
    )
    assert str(error) == (
        "slide 'a.png': it decodes to 4.8 GB; the limit 'picture-bytes' is 2.1 GB. If you trust "
        "the file, raise the limit: --limit picture-bytes=5GB, or set "
        "PLIMSEG_LIMITS=picture-bytes=5GB."
    )
    limits.parse("picture-bytes=5GB")
    far = limits.exceeded(ModelError, "model-bytes", 1e30, path=tmp_path / "a.safetensors")
    assert isinstance(far, ModelError)
    assert "No limit can be raised that far" in str(far)


@pytest.mark.parametrize("name", limits.LIMITS)
def test_each_limit_holds_and_can_be_raised(name: str) -> None:
    value = limits.get(name)
    limits.check(SlideError, name, value)
    with pytest.raises(SlideError, match=f"the limit '{name}'") as caught:
        limits.check(SlideError, name, value + 1)
    way = str(caught.value).partition("--limit ")[2].partition(",")[0]
    with limits.changed([way]):
        limits.check(SlideError, name, value + 1)


def test_the_guide_holds_the_table() -> None:
    guide = (ROOT / "docs" / "user_guide.md").read_text("utf-8")
    assert limits.described() in guide, "copy limits.described() into the guide"


def test_every_limit_is_applied() -> None:
    source = "".join(
        path.read_text("utf-8")
        for package in ("src", "training")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "limits.py"
    )
    assert [name for name in limits.LIMITS if f'"{name}"' not in source] == []


def test_not_a_number_is_beyond_every_limit() -> None:
    with pytest.raises(SlideError):
        limits.check(SlideError, "nesting", float("nan"))


def test_commands_take_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PLIMSEG_LIMITS", raising=False)
    assert main(["info", str(tmp_path / "a.svs"), "--limit", "picture-bytes=-8"]) == 2
    assert "picture-bytes" in capsys.readouterr().err
    monkeypatch.setenv("PLIMSEG_LIMITS", "nonsense=1")
    assert main(["models"]) == 2
    assert "nonsense" in capsys.readouterr().err
