"""Damaged slides give pixels or a SlideError: no other exception, no hang, no dead process."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support import mutants

COUNT = int(os.environ.get("PLIMSEG_FUZZ", "300"))


@pytest.mark.skipif(sys.platform == "win32", reason="memory limits need POSIX")
@pytest.mark.timeout(120 + COUNT)
def test_mutants(tmp_path):
    folder = tmp_path / "bases"
    folder.mkdir()
    bases = mutants.write_bases(folder)
    assert [mutants.read_all(base) for base in bases] == ["pixels"] * len(bases)
    outcomes = mutants.run(folder, list(range(COUNT)))
    assert len(outcomes) == COUNT
    bad = {i: o for i, o in outcomes.items() if o not in ("pixels", "SlideError")}
    assert not bad, mutants.table(outcomes, bases)
    # the damage is real: many mutants are noticed
    assert sum(o == "SlideError" for o in outcomes.values()) > COUNT / 5


def test_a_mutant_is_determined_by_its_number(tmp_path, sample_path):
    folders = [tmp_path / name for name in "ab"]
    contents = []
    for folder in folders:
        folder.mkdir()
        contents.append(mutants.Mutant(7, sample_path).write(folder).read_bytes())
    assert contents[0] == contents[1] != sample_path.read_bytes()
