"""The table of what passed on which screen: a step that fails anywhere is seen, also a crash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import play_trust

STORY = """#!{python}
print("a warning of another program")
print("open                     14.8 s  a.svs, 2220 x 2967 px")
print("{second}")
print("until then              169.7 s")
raise SystemExit({code})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="runs a script by its first line")
@pytest.mark.parametrize(
    ("second", "code", "expected"),
    [
        ("two slides               76.6 s", 0, {"open": "14.8 s", "two slides": "76.6 s"}),
        ("FAILED  two slides: a: b", 1, {"open": "14.8 s", "two slides": "FAILED"}),
        ("Segmentation fault", 139, {"open": "14.8 s", "(the program)": "FAILED"}),
    ],
)
def test_steps_of_a_log(
    second: str,
    code: int,
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "scripts").mkdir()
    fake = tmp_path / "scripts" / "with_screen.sh"
    fake.write_text(STORY.format(python=sys.executable, second=second, code=code))
    fake.chmod(0o755)
    monkeypatch.setattr(play_trust, "ROOT", tmp_path)
    assert play_trust.play("1366x768@1.5", tmp_path / "out") == expected
    log = tmp_path / "out" / "1366x768_fonts_1.5" / "log.txt"
    assert second in log.read_text()
