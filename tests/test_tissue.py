from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from napari_plimseg.errors import ConfigError, PlimsegError, SlideError
from napari_plimseg.tissue import (
    COLORECTAL,
    GLAS,
    PRESETS,
    TissueClass,
    TissueClasses,
    parse_color,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_yaml(tmp_path: Path, name: str) -> None:
    PRESETS[name].to_yaml(tmp_path / "c.yaml")
    assert TissueClasses.from_yaml(tmp_path / "c.yaml") == PRESETS[name]
    assert TissueClasses.from_dict(PRESETS[name].to_dict()) == PRESETS[name]


def test_ids_start_at_one_and_background_is_last() -> None:
    assert COLORECTAL.mask_id("tumour epithelium") == 1
    assert COLORECTAL.mask_id(" BACKGROUND ") == COLORECTAL.background_id == 9
    assert COLORECTAL.tissue_ids == tuple(range(1, 9))
    assert GLAS.background_id is None
    assert GLAS.tissue_ids == (1, 2)
    assert COLORECTAL.by_id(3) == COLORECTAL[2]
    assert COLORECTAL.by_id(0) is None
    assert COLORECTAL.by_id(255) is None


def test_classes_are_added_before_background_renamed_and_removed() -> None:
    more = COLORECTAL.with_class(TissueClass("vessel", COLORECTAL.fresh_color(), ("blood vessel",)))
    assert more.names[-2:] == ("vessel", "background")
    assert len(set(more.colors)) == 10
    renamed = more.replaced("vessel", TissueClass("artery", (1, 2, 3)))
    assert renamed.names[-2:] == ("artery", "background")
    assert renamed[8].texts == ("artery",)
    assert renamed.without("artery") == COLORECTAL
    with pytest.raises(ConfigError, match="background can't be removed"):
        COLORECTAL.without("background")
    with pytest.raises(ConfigError, match="occurs twice"):
        COLORECTAL.with_class(TissueClass("Stroma", (1, 1, 1)))
    with pytest.raises(ConfigError, match=r"no class 'bone'.*Known: tumour"):
        COLORECTAL.mask_id("bone")


def test_fresh_colors_differ_for_many_classes() -> None:
    classes = TissueClasses((TissueClass("background", (255, 255, 255)),))
    for i in range(10):
        classes = classes.with_class(TissueClass(f"c{i}", classes.fresh_color()))
    assert len(set(classes.colors)) == 11


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "no list 'classes'"),
        ("classes: 5", "no list 'classes'"),
        ("classes: []", "no tissue classes"),
        ("classes: [{color: [1,2,3]}]", "class number 1 has no name"),
        ("classes: [{name: a, colour: [1,2,3]}]", "unknown key 'colour'"),
        ("classes: [{name: a, color: [1,2]}]", "not a color"),
        ("classes: [{name: a, color: [1,2,300]}]", "three numbers"),
        ("classes: [{name: a, color: red}]", "not a color like"),
        ("classes: [{name: a}, {name: A}]", "occurs twice"),
        ("classes: [{name: fat cells}, {name: ' Fat  cells '}]", "occurs twice"),
        ("classes: [{name: a}]\nmore: 1", "'more' is not known"),
        ("{", "not readable YAML"),
        ("!!python/object/apply:os.system ['true']", "holds a tag"),
    ],
)
def test_a_wrong_class_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        TissueClasses.from_yaml(path)


def test_a_short_class_file_gets_colours_and_prompts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("classes:\n - name: gland\n   prompts: crypt, tubule\n - name: fat\n")
    classes = TissueClasses.from_yaml(path)
    assert classes[0].texts == ("crypt", "tubule")
    assert classes[1].texts == ("fat",)
    assert classes[0].color != classes[1].color


@pytest.mark.parametrize(
    ("value", "color"), [("#cd3333", (205, 51, 51)), ([1, 2, 3], (1, 2, 3)), ((0, 0, 0),) * 2]
)
def test_colours_are_read(value: Any, color: tuple[int, int, int]) -> None:
    assert parse_color(value) == color


def test_errors_name_the_file_without_its_folders_and_the_remedy() -> None:
    error = SlideError("is empty", path="/patients/Jane Doe/slide.svs", remedy="Copy it again.")
    assert str(error) == "slide 'slide.svs': is empty. Copy it again."
    assert isinstance(error, PlimsegError)
    codes = {cls.__name__: cls.exit_code for cls in PlimsegError.__subclasses__()}
    assert codes.pop("DiskError") == codes["StoreError"]  # both are about what is written
    assert len(set(codes.values())) == len(codes)
