from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_plimseg.files import user_data_dir
from napari_plimseg.inference.slide_places import SlidePlaces


def test_a_place_tells_no_path_and_leads_back_to_it(tmp_path: Path) -> None:
    results = tmp_path / "Mrs Smith" / "results"
    inside, beside = results / "new" / "a.svs", results.parent / "slides" / "a.svs"
    places = SlidePlaces(results)
    assert places.place_of(inside) == "new/a.svs"
    place = places.place_of(beside)
    assert place.startswith("elsewhere:")
    assert "Smith" not in place
    again = SlidePlaces(results)
    assert again.path_of("new/a.svs", "a.svs") == inside
    assert again.path_of(place, "a.svs") == beside
    assert again.place_of(beside) == place


def test_another_computer_looks_beside_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    first = SlidePlaces(results).place_of(tmp_path / "one" / "a.svs")
    second = SlidePlaces(results).place_of(tmp_path / "two" / "a.svs")
    monkeypatch.setenv("PLIMSEG_DATA_DIR", str(tmp_path / "other computer"))
    places = SlidePlaces(results)
    lost = [places.path_of(place, "a.svs") for place in (first, second)]
    assert lost[0] != lost[1]
    assert not any(path.exists() for path in lost)
    assert [places.place_of(path) for path in lost] == [first, second], "they stay as they were"
    (tmp_path / "a.svs").write_text("")
    assert SlidePlaces(results).path_of(first, "a.svs") == tmp_path / "a.svs"


def test_paths_can_not_be_guessed_from_the_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for user in ("one", "two"):
        monkeypatch.setenv("PLIMSEG_DATA_DIR", str(tmp_path / user))
        found.add(SlidePlaces(tmp_path / "results").place_of(Path("/slides/smith.svs").absolute()))
    assert len(found) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"salt": 1, "paths": {}}', '{"paths": []}', "\0"])
def test_a_damaged_register_is_written_again(tmp_path: Path, content: str) -> None:
    register = user_data_dir() / "slide_places.json"
    register.parent.mkdir(parents=True, exist_ok=True)
    register.write_text(content)
    path = tmp_path / "a.svs"
    place = SlidePlaces(tmp_path / "results").place_of(path)
    assert SlidePlaces(tmp_path / "results").path_of(place, "a.svs") == path
    assert list(json.loads(register.read_text("utf-8"))["paths"].values()) == [str(path)]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("../a.svs", "a.svs"), ("/etc/passwd", "passwd"), ("a/../../b.svs", "b.svs"),
        ("elsewhere:../x", "a.svs"), ("elsewhere:ab12", "../a.svs"), ("elsewhere:", "a.svs"),
    ],
)  # fmt: skip
def test_a_place_never_leads_out_of_the_folder(tmp_path: Path, place: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"folder|digest"):
        SlidePlaces(tmp_path).path_of(place, name)
