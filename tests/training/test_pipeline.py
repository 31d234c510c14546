"""From a folder to a model file, and the same model when the training was stopped or killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_plimseg.errors import ConfigError
from napari_plimseg.models.encoders.loading import load_matcher
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.model_file import read_header
from napari_plimseg.models.segmentation.cams import load_cam_model
from napari_plimseg.models.surroundings import Surroundings
from napari_plimseg.training_runs.history import RunHistory
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.config.recipe import load_recipe
from plimseg_training.data.datasets import TrainingData
from plimseg_training.events import read_events
from plimseg_training.loop.task import Stopped
from plimseg_training.pipeline import train_recipe, with_source
from plimseg_training.run_folder import RunError
from plimseg_training.stages.pseudo_masks import Targets
from tests.support.stages import halves, named_tissue, recipe, same, tissue

TRAINED = (
    "model.train_blocks=last",
    "stage1.backbone_learning_rate=0.0001",
    "stage2.backbone_learning_rate=0.0001",
    "stage2.self_training_rounds=1",
    "stage2.ema=0.5",
    "stage2.augment=full",
    "data.validation_fraction=0.5",
    "distill.student=small",
    "distill.epochs=1",
    "distill.crop=32",
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return named_tissue(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def small_images(tmp_path_factory):
    return named_tissue(tmp_path_factory.mktemp("small"), (32, 32))


@pytest.fixture(scope="module")
def measured_images(tmp_path_factory):
    """Two images with truth, told of in a table."""
    root = tmp_path_factory.mktemp("measured")
    rows = ["file,tumour,fat,truth"]
    for i in range(2):
        kinds = halves((64, 64), (1, 1))
        Image.fromarray(tissue(kinds, 90 + i)).save(root / f"{i}.png")
        Image.fromarray(kinds + 1).save(root / f"{i}-truth.png")
        rows.append(f"{i}.png,1,1,{i}-truth.png")
    (root / "tags.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def finished(images, measured_images, tmp_path_factory):
    """A training that nothing interrupted; the encoder stays as it is."""
    root = tmp_path_factory.mktemp("finished")
    events = []
    settings = (
        f"data.validation={measured_images}", "stage2.epochs=3", "model.window=352",
        "surroundings={smoothing: 1, together: [fat, tumour], least: 20}",
    )  # fmt: skip
    chosen = recipe(images, *settings)
    path = train_recipe(chosen, root, on_event=events.append)
    return chosen, RunFolder(root), path, events


@pytest.fixture(scope="module")
def finished_trained(small_images, tmp_path_factory):
    """Likewise, with all that a resumed training could get wrong."""
    root = tmp_path_factory.mktemp("trained")
    chosen = recipe(small_images, *TRAINED)
    return chosen, train_recipe(chosen, root)


def stopping_after(calls):
    left = iter(range(calls))
    return lambda: next(left, None) is None


# -- what comes of it


@pytest.mark.parametrize(("agrees", "source"), [(0.59, "mean"), (0.6, "model")])
def test_a_model_labels_where_it_predicts_the_tags(images, agrees, source, monkeypatch):
    class Model:
        title = "Mine"

        def __init__(self, name, *_):
            assert name == "mine"

    monkeypatch.setattr("plimseg_training.pipeline.ModelScores", Model)
    monkeypatch.setattr("plimseg_training.pipeline.agreement", lambda scores, images: agrees)
    chosen = recipe(images, "pseudo_masks.source=auto", "pseudo_masks.model=mine")
    folder = TrainingData.of(chosen).train
    cpu = torch.device("cpu")
    found, told = with_source(chosen, load_matcher("bundled"), folder, 0.5, cpu)
    assert found.pseudo_masks.source == source
    assert told.startswith(f"Agreement of 'Mine' with the tags: {100 * agrees:.0f} %. Labels from")
    plain = recipe(images, "pseudo_masks.source=words")
    assert with_source(plain, load_matcher("bundled"), folder, 0.5, cpu) == (plain, "")


def test_many_single_tags_leave_out_the_matching_losses(images, tmp_path):
    events = []
    chosen = recipe(images, "matching.most_single_tags=0.3", "stage2.epochs=1", "stage1.epochs=1")
    single = TrainingData.of(chosen).train.single_tags
    assert single > 0.3
    train_recipe(chosen, tmp_path, on_event=events.append)
    told = [event.message for event in events if "single tag" in event.message]
    assert told == [f"{100 * single:.0f} % of the windows have a single tag: no matching losses"]
    assert not {"ftm", "btm"} & {name for event in events for name in event.losses}


def test_the_run_folder_holds_everything(finished):
    chosen, run, path, events = finished
    assert path == run.model_file
    assert run.status() == "finished"
    assert load_recipe(run.recipe) == chosen
    summary = json.loads(run.folder_summary.read_text())
    assert summary["layout"] == "names"
    assert summary["parts"]["training"]["images"] == 8
    assert summary["parts"]["validation"]["with_truth"] == 2
    html = run.report.read_text("utf-8")
    assert "<html" in html
    assert "tumour" in html
    assert len(list(run.previews.iterdir())) >= 6
    assert list(run.live.glob("*.jpg"))
    assert sorted(p.stem for p in run.pseudo_masks.iterdir()) == sorted(
        f"{100 + i // 2}-{i}-0" for i in range(8)
    )
    kinds = [event.kind for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "done"
    assert {"scan", "stage", "epoch", "preview", "step", "checkpoint"} <= set(kinds)
    assert [event.kind for event in read_events(run.progress)] == kinds
    assert not list(run.root.rglob(".partial-*"))
    source = load_cam_model(run.cams_file)
    assert (source.name, source.mpp) == (chosen.name, 0.5)
    assert source.class_target(source.classes[0]).is_probability
    # what is passed on holds no path; the recipe and the checkpoints must, to resume
    shared = (run.report, run.progress, run.history, run.folder_summary, path, run.cams_file)
    for file in shared:
        content = file.read_bytes()
        for folder in (run.root.parent, chosen.data.train.parent):
            assert str(folder).encode() not in content, file.name
    history = RunHistory(run.root)
    for event in events:
        history.add(event)
    assert history.pictures
    assert all(Path(picture).is_file() for picture in history.pictures)


def test_pseudo_masks_obey_the_tags(finished):
    chosen, run, _, _ = finished
    folder = TrainingData.of(chosen).train
    targets = Targets(run.pseudo_masks)
    for image in folder.images:
        allowed = set(np.flatnonzero(image.tags[0]).tolist())
        assert set(np.unique(targets(image)).tolist()) <= allowed


def test_the_model_file_loads_and_predicts(finished):
    _, _, path, _ = finished
    model = load_model(path)
    assert model.classes.names == ("tumour", "fat")
    assert model.mpp == 0.5
    image = torch.from_numpy(tissue(halves((320, 320), (1, 1)), 5))[None]
    found = model.probabilities(image)
    assert found.shape == (1, 2, 320 // model.mask_stride, 320 // model.mask_stride)
    assert torch.allclose(found.sum(1), torch.ones_like(found[:, 0]), atol=1e-4)
    assert float(found[0, 0, :, :30].mean()) > float(found[0, 0, :, 50:].mean())


def test_the_model_sees_windows_of_the_recipes_size(finished):
    _, _, path, _ = finished
    network = read_header(path).network
    assert (network["window"], network["step"]) == (352, 256)


def test_the_model_has_the_surroundings_of_the_recipe(finished, images):
    _, _, path, _ = finished
    assert load_model(path).surroundings == Surroundings(1.0, (1, 0), 40.0, 20.0)
    unknown = recipe(images, "surroundings.together=[fat, bone]")
    classes = TrainingData.of(unknown).train.classes
    with pytest.raises(ConfigError, match=r"'surroundings.together' names 'bone'"):
        unknown.surroundings.for_classes(classes)
    assert recipe(images).surroundings.for_classes(classes) is None


def test_a_frozen_encoder_is_not_in_the_file(finished):
    _, _, path, _ = finished
    assert all(name.startswith("head.") for name in load_file(path))


def test_scores_are_told_and_kept(finished):
    _, run, _, events = finished
    kept = json.loads((run.root / "evaluation.json").read_text())
    assert kept
    assert any("mIoU" in name for name in events[-1].scores)


def test_a_trained_encoder_is_in_the_file(finished_trained):
    _, path = finished_trained
    names = {name.split(".")[0] for name in load_file(path)}
    assert names == {"head", "backbone"}
    image = torch.zeros(1, 320, 320, 3, dtype=torch.uint8)
    assert bool(load_model(path).probabilities(image).isfinite().all())
    assert (path.parent / "pseudo_masks_1").is_dir()


def test_the_trained_encoder_differs_from_the_one_before(finished_trained):
    from napari_plimseg.models.encoders.loading import load_backbone

    _, path = finished_trained
    before = load_backbone("bundled").state_dict()
    after = {
        name.removeprefix("backbone."): tensor
        for name, tensor in load_file(path).items()
        if name.startswith("backbone.")
    }
    changed = [n for n, t in after.items() if not torch.equal(t, before[n].to(t.dtype))]
    assert changed


# -- stopping


def test_stopped_again_and_again_it_makes_the_same_model(finished_trained, tmp_path):
    chosen, expected = finished_trained
    stops = []
    for calls in (1, 2, 3, 0, 5):
        with pytest.raises(Stopped):
            train_recipe(chosen, tmp_path, should_stop=stopping_after(calls))
        stops.append([e.stage for e in read_events(RunFolder(tmp_path).progress)][-1])
        assert RunFolder(tmp_path).status() == "stopped"
    assert stops == ["stage1", "pseudo_masks", "stage2", "pseudo_masks", "stage2_round1"]
    path = train_recipe(chosen, tmp_path)
    assert same(load_file(path), load_file(expected))


def test_another_recipe_does_not_go_on(finished, images):
    chosen, run, _, _ = finished
    with pytest.raises(RunError, match="seed"):
        train_recipe(chosen.override("seed=3"), run.root)
    kinds = [event.kind for event in read_events(run.progress)]
    assert kinds[-1] == "failed"


def test_without_resume_a_training_is_not_overwritten(finished):
    chosen, run, path, _ = finished
    before = path.read_bytes()
    with pytest.raises(RunError, match="already"):
        train_recipe(chosen, run.root, resume=False)
    assert path.read_bytes() == before


def test_words_under_the_tags_need_no_stage_1(small_images, tmp_path):
    chosen = recipe(
        small_images, "pseudo_masks.source=words", "pseudo_masks.ignore_margin=0", "matching.ftm=0"
    )
    with pytest.raises(Stopped):
        train_recipe(chosen, tmp_path, should_stop=stopping_after(7))
    path = train_recipe(chosen, tmp_path)
    run = RunFolder(tmp_path)
    stages = {event.stage for event in read_events(run.progress)}
    assert "stage1" not in stages
    assert {"pseudo_masks", "stage2"} <= stages
    assert list(run.previews.glob("cams-*.jpg"))
    data = TrainingData.of(chosen)
    for image in data.train.images:
        assert set(np.unique(Targets(run.pseudo_masks)(image))) <= set(
            np.flatnonzero(image.tags[0])
        )
    before = path.read_bytes()
    with pytest.raises(RunError, match="already"):
        train_recipe(chosen, tmp_path, resume=False)
    assert path.read_bytes() == before


# -- the data


def test_groups_for_validation_by_name(images):
    data = TrainingData.of(recipe(images, "data.validation_groups=['101']"))
    assert {image.group for image in data.validation.images} == {"101"}
    assert {image.group for image in data.train.images} == {"100", "102", "103"}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.validation_groups=['999']", "999"),
        ("data.validation_groups=['100','101','102','103']", "none is left"),
        ("data.train=null", "no folder"),
    ],
)
def test_what_cannot_be_split_is_told(images, setting, told):
    with pytest.raises(ConfigError, match=told):
        TrainingData.of(recipe(images, setting))


def test_without_a_fraction_everything_is_trained_on(images):
    data = TrainingData.of(recipe(images, "data.validation_fraction=0"))
    assert data.validation is None
    assert len(data.train.images) == 8
    assert data.digest() == data.train.digest()
