from __future__ import annotations

import pytest

from napari_plimseg.tables import csv_text, guarded, read_csv, unguarded

FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1+1", "'=1", "''@a", "-", "=", "-1.5", "+3", "-inf",  # noqa: E501
    '=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0", "-2+3;=4", "+49 30 123",
]  # fmt: skip
PLAIN = [
    "", "tumour", "a=b", "O'Brien", "'quoted'", "1e-5", ".5", "nan",
    "naïve 幻灯片", "a,b", 'say "x"', "two\nlines", "a;=1", " padded ", "\\",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_what_could_run_as_a_formula_is_guarded(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_unchanged(text: str) -> None:
    assert guarded(text) == text
    assert unguarded(text) == text


def test_every_cell_reads_back_to_the_same_text() -> None:
    rows = [[text, "x", text] for text in FORMULAS + PLAIN]
    for end in ("\n", "\r\n"):
        assert read_csv(csv_text(rows, end=end)) == rows


def test_numbers_stay_numbers_and_nothing_is_empty() -> None:
    assert csv_text([[-1, -0.5, None, float("-inf"), "-3"]]) == "-1,-0.5,,-inf,'-3\n"


def test_a_semicolon_hides_no_formula() -> None:
    # spreadsheets of many languages split lines at semicolons, but not within quotation marks
    assert csv_text([["a;=1+1", 2]]) == '"a;=1+1",2\n'
