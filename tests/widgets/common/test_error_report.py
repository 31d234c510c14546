"""The report has what developers need and no patient data."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from napari_plimseg._widgets.common.error_report import error_report
from napari_plimseg.errors import ModelError, SlideError

MARK = "CANARY"
HOSTILE = [
    f"{MARK} Mary 1950-01-02.svs",
    f"Mary's {MARK}.svs",
    f"\"{MARK}\" 'quoted'.ndpi",
    f"{MARK}.svs: it does not exist",
    f"{MARK}\nslide 'x'.tif",
    f"naïve {MARK} 幻灯片.mrxs",
    f"{MARK}' ' the slide.tif",
    f"{MARK} no ending",
    f"<file 1> {MARK}.svs",
    f"<{MARK}>",
    f"12/34/{MARK}",
    f"{MARK}@hospital.org",
]


def failing(name: str) -> SlideError:
    try:
        try:
            Path(f"/home/{MARK}/slides").joinpath(name.replace("\n", " ")).read_bytes()
        except OSError as error:
            raise SlideError("it does not exist", path=name, remedy="Check the name.") from error
    except SlideError as error:
        return error


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_of_a_file_is_in_the_report(name: str) -> None:
    error = failing(name)
    for sentence in (str(error), f"Could not read {name}", name, f"slide {name}: gone"):
        report = error_report(sentence, error)
        assert MARK.casefold() not in report.casefold()
        assert "Mary" not in report
        assert "hospital" not in report
        assert "1950" not in report
        assert "/home" not in report
        assert str(Path(__file__).parent) not in report


def test_the_sentence_and_the_places_in_code_are_there() -> None:
    error = failing("case 7.svs")
    report = error_report(str(error), error, device="cuda:0")
    assert "slide <file 1>: it does not exist. Check the name." in report
    assert "SlideError" in report
    assert "caused by\nFileNotFoundError" in report
    assert "napari-plimseg " in report
    assert "device cuda:0" in report


def test_the_same_file_has_the_same_number_and_others_have_others() -> None:
    report = error_report("model 'a.pt': is damaged. 'b.pt' is damaged, model 'a.pt' too.")
    assert report.count("<file 1>") == 2
    assert report.count("<file 2>") == 1


def test_places_in_this_package_are_named() -> None:
    from napari_plimseg.models.model_file import read_header

    with pytest.raises(ModelError) as caught:
        read_header(f"/nowhere/{MARK}.safetensors")
    report = error_report("", caught.value)
    assert "napari_plimseg/models/model_file.py:" in report
    assert "in read_header" in report
    assert MARK not in report


def test_a_device_that_is_none_is_left_out() -> None:
    assert MARK not in error_report("x", device=f"{MARK} GPU")


def test_long_words_take_no_time() -> None:
    started = time.perf_counter()
    error_report("'" * 50_001 + "a" * 200_000, ValueError("a" * 200_000))
    assert time.perf_counter() - started < 10
