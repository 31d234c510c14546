"""Recipes: what is right comes back the same, what is wrong is named."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_plimseg.errors import ConfigError
from plimseg_training.config import recipe as config_module
from plimseg_training.config.recipe import (
    DataConfig,
    DistillConfig,
    GateConfig,
    MatchingConfig,
    ModelConfig,
    PseudoMaskConfig,
    Recipe,
    StageConfig,
    load_recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

SMALLEST = """\
name: mine
data:
  train: images
stage1: {epochs: 2, batch_size: 4, learning_rate: 1e-3}
stage2: {epochs: 3, batch_size: 2, learning_rate: 0.002}
"""
CONFIGS = (
    Recipe, DataConfig, ModelConfig, MatchingConfig, StageConfig, PseudoMaskConfig, GateConfig,
    DistillConfig,
)  # fmt: skip


def written(folder: Path, text: str = SMALLEST) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(text.encode())
    return path


def test_a_small_recipe_has_defaults_and_paths_beside_it(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path))
    assert recipe.data.train == tmp_path / "images"
    assert recipe.stage1.learning_rate == 1e-3
    assert recipe.stage2.epochs == 3
    assert recipe.matching == MatchingConfig()
    assert recipe.seed == 0


def test_a_recipe_that_was_written_is_read_the_same_from_any_folder(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path)).override(
        ["pseudo_masks.scales=[0.5, 1]", "data.validation_groups=[a, b]", "data.mpp=0.5"]
    )
    copy = tmp_path / "elsewhere" / "recipe.yaml"
    recipe.to_yaml(copy)
    assert load_recipe(copy) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.pseudo_masks.scales == (0.5, 1.0)


def test_numbers_and_colors_of_masks_are_names(tmp_path: Path) -> None:
    text = "  train: images\n  map: {3: stroma, '#0000ff': gland, Fat: '-'}\n  ignore: [7, Ink]"
    recipe = load_recipe(written(tmp_path, SMALLEST.replace("  train: images", text)))
    assert recipe.data.maps == ("3=stroma", "#0000ff=gland", "Fat=-")
    assert recipe.data.ignore == ("7", "Ink")
    assert Recipe.from_dict(yaml.safe_load(recipe.to_text())) == recipe
    more = recipe.with_masks_read(["4=stroma"], ["8"]).data
    assert more.maps[-1] == "4=stroma"
    assert more.ignore == ("7", "Ink", "8")
    for wrong in ("gland", "3=gland"):
        with pytest.raises(ConfigError, match="--map"):
            recipe.with_masks_read([wrong], [])


def test_classes_may_be_a_preset_a_file_or_written_out(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path))
    assert recipe.data.tissue_classes() is None
    glas = recipe.override("data.classes=glas").data.tissue_classes()
    assert glas is not None
    assert glas.names == ("gland", "other tissue")
    glas.to_yaml(tmp_path / "own.yaml")
    text = SMALLEST.replace("  train: images", "  train: images\n  classes: own.yaml")
    assert load_recipe(written(tmp_path, text)).data.tissue_classes() == glas
    inline = recipe.override("data.classes={classes: [{name: tumour}, {name: stroma}]}")
    found = inline.data.tissue_classes()
    assert found is not None
    assert found.names == ("tumour", "stroma")
    assert Recipe.from_dict(yaml.safe_load(inline.to_text())) == inline


# what is wrong, the text, what the message must say (problem and remedy)
MISTAKES: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("unknown key", "epochs: 2", "epoch: 2",
     ("the key 'stage1.epoch' is not known; did you mean 'epochs'?",)),
    ("unknown section", "stage2:", "stage3:",
     ("the key 'stage3' is not known; did you mean 'stage2'?",)),
    ("unknown and unlike anything", "name: mine", "name: mine\nzzz: 1",
     ("the key 'zzz' is not known.", "Known here: name, data")),
    ("missing key", "epochs: 2, ", "", ("the key 'stage1.epochs' is missing", "Add it")),
    ("missing section", "stage2: {epochs: 3, batch_size: 2, learning_rate: 0.002}\n", "",
     ("the key 'stage2' is missing",)),
    ("text for a whole number", "epochs: 2", "epochs: two",
     ("'stage1.epochs' holds the text 'two'", "Write a whole number")),
    ("broken number for a whole one", "epochs: 2", "epochs: 2.5",
     ("'stage1.epochs' holds the number 2.5", "Write a whole number")),
    ("yes for a number", "batch_size: 4", "batch_size: yes",
     ("'stage1.batch_size' holds true", "Write a whole number")),
    ("nothing after the colon", "train: images", "train: images\n  layout:",
     ("'data.layout' holds nothing", "Write text")),
    ("number for a name", "name: mine", "name: 7",
     ("the key 'name' holds the number 7", "in quotes")),
    ("too small", "epochs: 2", "epochs: 0",
     ("'stage1.epochs' is 0", "at least 1 and at most 100000")),
    ("not finite", "1e-3", ".nan", ("'stage1.learning_rate' is nan", "finite")),
    ("a share over one half", "train: images", "train: images\n  validation_fraction: 0.9",
     ("'data.validation_fraction' is 0.9", "at most 0.5")),
    ("impossible pixel size", "train: images", "train: images\n  mpp: 50",
     ("'data.mpp' is 50", "at least 0.05 and at most 20")),
    ("unknown choice", "learning_rate: 0.002", "learning_rate: 0.002, schedule: linear",
     ("'stage2.schedule' is the text 'linear'", "'cosine', 'poly'")),
    ("a list for a value", "name: mine", "name: mine\ndevice: [cuda]",
     ("the key 'device' holds a list", "Write text")),
    ("a value for a list", "name: mine", "name: mine\npseudo_masks: {scales: 1.0}",
     ("'pseudo_masks.scales' holds the number 1.0", "a list in square brackets")),
    ("a number in a list of paths", "train: images", "train: images\n  more: [a, 3]",
     ("'data.more' holds the number 3", "a path as text")),
    ("a set for a list", "train: images", "train: images\n  more: {a: null, b: null}",
     ("'data.more' holds keys and values", "a list in square brackets")),
    ("one number of a list out of range", "name: mine",
     "name: mine\npseudo_masks: {scales: [1, 9]}", ("'pseudo_masks.scales' is 9", "at most 4")),
    ("a key that is no text", "epochs: 2", "epochs: 2, 3: x",
     ("the key 'stage1.3' is not known", "Known here: epochs")),
    ("empty list", "name: mine", "name: mine\npseudo_masks: {scales: []}",
     ("'pseudo_masks.scales' is empty", "[1.0]")),
    ("a value for a section", "stage2: {epochs: 3, batch_size: 2, learning_rate: 0.002}",
     "stage2: 3", ("the key 'stage2' holds the number 3", "indented by spaces")),
    ("tabs", "  train", "\ttrain", ("line 3 is indented by a tab", "Use spaces")),
    ("a key twice", "name: mine", "name: mine\nname: yours",
     ("the key 'name' appears twice, in lines 1 and 2", "Remove one")),
    ("a key twice further in", "epochs: 2", "epochs: 2, epochs: 3",
     ("the key 'epochs' appears twice",)),
    ("no space after the colon", "name: mine\n", "name:mine\n", ("not readable YAML",)),
    ("brackets left open", "0.002}", "0.002", ("not readable YAML",)),
    ("home folder", "train: images", "train: ~/images",
     ("'data.train' is '~/images'", "neither ~ nor variables")),
    ("variable", "train: images", "train: $DATA/images", ("neither ~ nor variables",)),
    ("a student of another size", "name: mine", "name: mine\ndistill: {student: tiny}",
     ("'distill.student' is the text 'tiny'", "'none', 'small'")),
    ("a gate that keeps too little", "name: mine", "name: mine\ngate: {by: tags, keep: 0.1}",
     ("'gate.keep' is 0.1", "at least 0.5 and at most 1")),
    ("too much smoothing", "name: mine", "name: mine\nsurroundings: {smoothing: 500}",
     ("'surroundings.smoothing' is 500", "at most 100")),
    ("preset misspelt", "train: images", "train: images\n  classes: luad_histosg",
     ("did you mean 'luad_histoseg'?", "Presets: ")),
    ("classes without names", "train: images", "train: images\n  classes: {classes: [{}]}",
     ("class number 1 has no name",)),
    ("a crop too small", "epochs: 2", "epochs: 2, crop: 8", ("'stage1.crop' is 8", "at least 32")),
    ("an average that never moves", "epochs: 2", "epochs: 2, ema: 1.0",
     ("'stage1.ema' is 1", "less than 1")),
    ("device misspelt", "name: mine", "name: mine\ndevice: gpu", ("'device' is 'gpu'", "cuda:1")),
    ("blocks trained at no rate", "name: mine", "name: mine\nmodel: {train_blocks: last}",
     ("'model.train_blocks' is 'last'", "backbone_learning_rate")),
    ("a color without quotes", "train: images", "train: images\n  map: {a: #0000ff\n    }",
     ("'data.map' has a name or a class that is empty", "quotes: '#0000ff'")),
    ("a list for a map", "train: images", "train: images\n  map: [3, stroma]",
     ("'data.map' holds a list", "Write keys and values")),
    ("a number for a class", "train: images", "train: images\n  map: {3: 4}",
     ("'data.map.3' holds the number 4", "Write text")),
    ("name with a slash", "name: mine", "name: a/b", ("'name' is 'a/b'", "letters, digits")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_each_mistake_is_named_with_file_and_remedy(
    old: str, new: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    assert old in SMALLEST
    path = written(tmp_path, SMALLEST.replace(old, new, 1))
    with pytest.raises(ConfigError) as raised:
        load_recipe(path)
    message = str(raised.value)
    assert message.startswith("configuration 'mine.yaml': ")
    assert raised.value.remedy
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"- a\n- b\n", "does not hold keys and values"),
        (b"just words\n", "does not hold keys and values"),
        (b"\xff\xfe\x00name", "not UTF-8"),
        (b"a: &a [*a]\n", "holds an alias or anchor"),
        (b"name: !!python/object/apply:os.getcwd []\n", "holds a tag"),
        (b"x" * (2 << 20), "the limit 'yaml-bytes'"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.yaml") as raised:
        load_recipe(path)
    assert said in str(raised.value)


def test_a_missing_recipe_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_recipe(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_recipe(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, "\ufeff" + SMALLEST)).name == "mine"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stage1.epochs", "is not key=value"),
        ("=3", "is not key=value"),
        ("stage1.epoch=3", "did you mean 'epochs'?"),
        ("stag1.epochs=3", "did you mean 'stage1'?"),
        ("name.first=3", "the key 'name.first' is not known"),
        ("stage1.epochs=", "holds nothing"),
        ("stage1.epochs=[", "not readable YAML"),
    ],
)
def test_wrong_settings_are_named(setting: str, said: str, tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path))
    with pytest.raises(ConfigError) as raised:
        recipe.override([setting])
    assert said in str(raised.value)


def test_settings_change_one_key_and_leave_the_recipe_alone(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path))
    changed = recipe.override(["stage1.epochs=9", "matching.threshold=null", "device=cuda:1"])
    assert recipe.stage1.epochs == 2
    assert changed == dataclasses.replace(
        recipe, stage1=dataclasses.replace(recipe.stage1, epochs=9), device="cuda:1"
    )


def test_objects_check_themselves_too() -> None:
    with pytest.raises(ConfigError, match="'width' is 4"):
        ModelConfig(width=4)
    with pytest.raises(ConfigError, match="'form' is the text 'clip'"):
        MatchingConfig(form="clip")  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().width = 8  # type: ignore[misc]


def test_matching_losses_are_left_out_where_single_tags_locate_the_classes() -> None:
    losses = MatchingConfig(most_single_tags=0.3, other_losses={"mine": 1.0})
    assert losses.suited_to(0.3) is losses
    left_out = losses.suited_to(0.31)
    assert not left_out.is_used
    assert left_out == dataclasses.replace(
        losses, ftm=0.0, btm=0.0, cbs=0.0, area=0.0, other_losses={"mine": 0.0}
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.__name__)
def test_every_key_is_documented(config: type) -> None:
    documented = set()
    for line in re.findall(r"^    (\w[\w, ]*) : ", config.__doc__ or "", re.MULTILINE):
        documented |= set(line.split(", "))
    assert {f.name for f in dataclasses.fields(config)} == documented  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        PseudoMaskConfig,
        scales=st.lists(st.floats(0.1, 4), min_size=1, max_size=4).map(tuple),
        flips=st.booleans(),
        refine=st.sampled_from(["none", "pamr"]),
        ignore_margin=st.floats(0, 1),
    ),
    st.integers(0, 2**32 - 1),
)
def test_any_recipe_survives_yaml(masks: PseudoMaskConfig, seed: int) -> None:
    stage = StageConfig(epochs=1, batch_size=1, learning_rate=1e-5)
    recipe = Recipe("x", DataConfig(), stage, stage, pseudo_masks=masks, seed=seed)
    assert Recipe.from_dict(yaml.safe_load(recipe.to_text())) == recipe


def test_reading_recipes_is_light() -> None:
    code = f"import {config_module.__name__}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
