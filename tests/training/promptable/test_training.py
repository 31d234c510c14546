"""Training of a model for hints, on discs: losses, patches, drawn hints, steps, stop and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_plimseg.errors import ConfigError, PlimsegError, TagError
from napari_plimseg.models.promptable.model_file import load_hint_model
from napari_plimseg.models.promptable.prompt_tensors import PatchHints
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.__main__ import main
from plimseg_training.promptable.config import (
    HintRecipe,
    hint_recipes,
    is_hint_recipe,
    load_hint_recipe,
)
from plimseg_training.promptable.objects import Objects, window
from plimseg_training.promptable.simulated_prompts import (
    DrawConfig,
    box_of,
    corrected,
    first_hints,
    innermost,
    jittered,
)
from plimseg_training.promptable.task import (
    CachedMaps,
    HintTask,
    PointSampling,
    TrainedParts,
    dice_loss,
    mask_loss,
    uncertain_places,
    values_at,
)
from plimseg_training.promptable.training import (
    objects_of,
    starting_model,
    train_hint_recipe,
)
from tests.support.prompt_objects import MPP, SIDE, disc, glands, recipe

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return glands(tmp_path_factory.mktemp("discs") / "glas")


# -- losses


def test_dice_loss_is_its_formula() -> None:
    logits, truth = torch.randn(2, 7), torch.tensor([[1.0, 0, 1, 1, 0, 0, 1], [0.0] * 7])
    wanted = []
    for one, t in zip(logits, truth, strict=True):
        p = 1 / (1 + torch.exp(-one))
        wanted.append(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    torch.testing.assert_close(dice_loss(logits, truth), torch.stack(wanted).mean())


def test_values_at_places_are_bilinear() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    # middles of pixels (row 1, column 2) and (row 0, column 0), and between two pixels
    places = torch.tensor([[[2.5 / 4, 1.5 / 3], [0.5 / 4, 0.5 / 3], [2 / 4, 1.5 / 3]]])
    torch.testing.assert_close(values_at(maps, places), torch.tensor([[6.0, 0.0, 5.5]]))


def test_most_points_lie_where_the_network_is_unsure() -> None:
    torch.manual_seed(0)
    logits = torch.full((1, 1, 32, 32), 9.0)
    logits[..., 15:17] = 0.0  # an edge in the middle
    places = uncertain_places(logits, PointSampling(points=400, oversample=10, uncertain=0.75))
    assert places.shape == (1, 400, 2)
    near = ((places[0, :, 0] - 0.5).abs() < 1.5 / 32 + 1e-6).float()
    assert near[:300].mean() == 1
    assert near[300:].mean() < 0.3


def test_perfect_masks_cost_nothing_and_wrong_ones_do() -> None:
    truth = torch.from_numpy(disc(32, 16, 16, 8))[None, None].float()
    sampling = PointSampling(points=500)
    right = sum(mask_loss(40 * (truth - 0.5), truth, sampling))
    wrong = sum(mask_loss(40 * (0.5 - truth), truth, sampling))
    assert right < 0.6  # bilinear values between pixels remain
    assert wrong > 5


# -- objects and patches


def test_touching_objects_are_told_apart_by_instances(folder: Path) -> None:
    data, objects, validation = objects_of(recipe(folder))
    assert validation is not None
    assert (len(objects), len(validation)) == (3 * 2, 2)
    first, second = objects.items[:2]
    assert first.center == (30, 44)
    assert second.center == (58, 44)
    (folder / "instances").rename(folder / "away")
    try:
        whole = Objects(data.train, MPP, leave_out=("other tissue",))
    finally:
        (folder / "away").rename(folder / "instances")
    assert len(whole) == 3, "without, both are one region"


def test_both_patches_have_one_centre_and_lr_twice_the_field(folder: Path) -> None:
    _, objects, _ = objects_of(recipe(folder))
    pair = objects.pair(0, SIDE, (5.0, -3.0))
    assert pair.hr.shape == pair.lr.shape == (SIDE, SIDE, 3)
    # centre (30, 44) + (5, -3): the object's own middle is 5 above and 3 right of the patch's
    assert innermost(pair.hr_mask) == pytest.approx((27.0, 35.0), abs=1.01)
    y0, x0, y1, x1 = box_of(pair.hr_mask)
    coarse = PatchHints(boxes=((y0, x0, y1, x1),)).at_half_scale(SIDE).boxes[0]
    assert box_of(pair.lr_mask) == pytest.approx(coarse, abs=1)
    middle = pair.lr[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].astype(float)
    means = pair.hr.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    assert np.abs(middle - means).max() <= 0.5
    assert (pair.lr[0] == 255).all(), "white outside of the image"


def test_images_are_brought_to_the_recipes_resolution(folder: Path) -> None:
    _, objects, _ = objects_of(recipe(folder, objects={"mpp": 2 * MPP, "min_area": 10}))
    assert objects.image(0)[0].shape == (48, 48, 3)
    assert objects.items[0].center == pytest.approx((15, 22), abs=0.6)


def test_patches_at_the_border_are_filled() -> None:
    array = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert window(array, -1, 3, 3, 9).tolist() == [[9, 9, 9], [3, 9, 9], [7, 9, 9]]
    assert (window(array, 40, 40, 2, 9) == 9).all()


@pytest.mark.parametrize(("turns", "mirrored"), [(0, True), (1, False), (3, True)])
def test_patches_and_masks_are_flipped_alike(folder: Path, turns: int, mirrored: bool) -> None:
    _, objects, _ = objects_of(recipe(folder))
    pair = objects.pair(0, SIDE, (4.0, 7.0))
    flipped = pair.flipped(turns=turns, mirrored=mirrored)
    assert not np.array_equal(flipped.hr_mask, pair.hr_mask)
    for pixels, mask in ((flipped.hr, flipped.hr_mask), (flipped.lr, flipped.lr_mask)):
        assert pixels[mask][:, 1].mean() < 60, "the object is dark wherever its mask is"
        assert pixels[~mask][:, 1].mean() > 150
    assert box_of(flipped.lr_mask) == pytest.approx(
        PatchHints(boxes=(box_of(flipped.hr_mask),)).at_half_scale(SIDE).boxes[0], abs=1
    )


# -- drawn hints


def test_hints_lie_where_a_person_would_put_them() -> None:
    mask = disc(64, 30, 20, 9)
    random = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        hints = first_hints(mask, DrawConfig(), random)
        kinds.add(bool(hints.boxes))
        for y, x, positive in hints.points:
            assert mask[int(y), int(x)] == positive
        assert len(hints.boxes) == 1 or any(positive for *_, positive in hints.points)
    assert kinds == {True, False}
    assert box_of(mask) == (21, 11, 39, 29)
    for _ in range(50):
        y0, x0, y1, x1 = jittered(box_of(mask), 0.2, (64, 64), random)
        assert y0 < y1
        assert x0 < x1
        assert np.abs(np.subtract((y0, x0, y1, x1), box_of(mask))).max() <= 0.2 * 18


def test_corrections_are_put_into_the_largest_mistake() -> None:
    truth = disc(64, 30, 30, 12)
    predicted = truth.copy()
    predicted[28:33, 28:33] = False  # a hole
    predicted[50:60, 50:62] = True  # a larger surplus
    hints = corrected(PatchHints(boxes=(box_of(truth),)), predicted, truth)
    ((y, x, positive),) = hints.points
    assert not positive
    assert 50 <= y <= 60
    assert 50 <= x <= 62
    assert innermost(truth) == pytest.approx((30, 30), abs=1)
    assert corrected(hints, truth, truth) is hints


# -- training


def task_of(folder: Path, **changes: object) -> HintTask:
    settings = recipe(folder, **changes)
    _, objects, validation = objects_of(settings)
    return HintTask(settings, starting_model(settings), objects, validation, torch.device("cpu"))


def test_steps_reduce_the_loss_and_leave_the_encoder_alone(folder: Path) -> None:
    task = task_of(folder)
    before = {n: p.clone() for n, p in task.model.encoder.backbone.named_parameters()}
    optimizer = torch.optim.AdamW(task.network.parameters(), 3e-3)
    batch = task.batch(0, 0, [0, 1])
    losses = []
    for _ in range(12):
        torch.manual_seed(0)
        loss, parts = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert set(parts) == {"hr_bce", "hr_dice", "lr_bce", "lr_dice"}
    after = dict(task.model.encoder.backbone.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in before.items())


def test_the_shipped_model_is_trained_with_the_drawings_that_it_expects(folder: Path) -> None:
    task = task_of(folder, model={"start": "bundled"})
    assert task.model.draws_hints
    sample = task.batch(0, 0, [0])[0]
    box = PatchHints(boxes=(box_of(sample.pair.hr_mask),))
    encoded = {name: task._encoded([sample], name) for name in task.model.resolutions}
    with torch.no_grad():
        learnt = task._decoded(encoded, [box]).hr
        used = task.model.eval().decode(encoded["hr"], encoded["lr"], [box]).hr
    assert learnt is not None
    assert torch.equal(learnt, used)
    loss, _ = task.loss([sample])
    loss.backward()
    assert all(p.grad is None for p in task.model.encoder.backbone.parameters())


def test_batches_repeat_and_views_take_turns(folder: Path) -> None:
    task = task_of(folder)
    one, again = (task.batch(7, 3, [4])[0] for _ in range(2))
    assert one.hints == again.hints
    assert np.array_equal(one.pair.hr, again.pair.hr)
    next_epoch, one_later = (task.batch(7, epoch, [4])[0] for epoch in (4, 5))
    assert not np.array_equal(one.pair.hr, next_epoch.pair.hr)
    assert np.array_equal(one.pair.hr, one_later.pair.hr), "there are two views"
    assert one.hints != one_later.hints, "but hints are always new"


def test_kept_maps_are_those_made_again(folder: Path) -> None:
    task = task_of(folder)
    sample = task.batch(0, 0, [0])[0]
    kept, none_left = CachedMaps(task.model, task.device), CachedMaps(task.model, task.device, 0)
    first, again, fresh = (
        maps.encoded([((1,), sample.pair.hr)]).final for maps in (kept, kept, none_left)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, fresh)


def test_checkpoints_hold_what_is_trained_only(folder: Path) -> None:
    task = task_of(folder)
    names = set(TrainedParts(task.model).state_dict())
    assert not any("backbone" in name for name in names)
    assert sum(p.numel() for p in task.network.parameters()) == sum(
        p.numel() for p in task.model.trained_parameters()
    )


def test_a_stopped_training_goes_on_as_if_it_had_not(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    whole = train_hint_recipe(settings, tmp_path / "whole")
    calls = iter(range(100))
    stopped = train_hint_recipe(settings, tmp_path / "parts", should_stop=lambda: next(calls) == 2)
    assert stopped is None
    assert RunFolder(tmp_path / "parts").status() == "stopped"
    resumed = train_hint_recipe(settings, tmp_path / "parts")
    assert whole is not None
    assert resumed is not None
    ours, theirs = (load_hint_model(path).state_dict() for path in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_hint_model(resumed).weights_name == "discs"

    # and a model for hints can be trained on: its projections stay as they are
    more = starting_model(recipe(folder, model={"start": str(resumed)}))
    assert {n.split(".")[0] for n, p in more.named_parameters() if p.requires_grad} == {"decoder"}


def test_the_command_trains_and_lists(folder: Path, tmp_path: Path) -> None:
    assert is_hint_recipe(hint_recipes()["wsi_sam"])
    assert load_hint_recipe(hint_recipes()["wsi_sam"]).model.start == "bundled"
    settings = recipe(folder, training={"epochs": 1})
    settings.to_yaml(tmp_path / "mine.yaml")
    assert load_hint_recipe(tmp_path / "mine.yaml") == settings
    arguments = ["train", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*arguments, "--dry-run"]) == 0
    assert not (tmp_path / "run").exists()
    assert main([*arguments, "--no-list"]) == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert main([*arguments, "--no-list"]) == 6, "the folder holds a training"


# -- mistakes


def test_images_without_masks_are_refused(tmp_path: Path, folder: Path) -> None:
    from PIL import Image

    for i, name in enumerate(("gland", "other tissue")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((40, 40, 3), 90 + i, np.uint8)).save(tmp_path / name / f"{i}.png")
    wrong = recipe(tmp_path, data={"layout": "folders", "mpp": 0.5, "validation_groups": []})
    with pytest.raises(TagError, match="no masks"):
        objects_of(wrong)
    with pytest.raises(TagError, match="no object"):
        objects_of(recipe(folder, objects={"min_area": 100_000}))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": {"side": 100}}, "model.side"),
        ({"draws": {"jitter": 3}}, "jitter"),
        ({"objects": {"mpp": -1}}, "mpp"),
        ({"colour": "red"}, "colour"),
        ({"device": "tpu"}, "device"),
        ({"model": {"start": "somewhere.txt"}}, "model.start"),
        ({"model": {"start": "sam:nowhere.pt"}}, "does not exist"),
    ],
)
def test_mistakes_in_recipes_are_named(tmp_path: Path, changes: dict, problem: str) -> None:
    with pytest.raises(PlimsegError, match=problem):
        starting_model(recipe(tmp_path, **changes))


def test_settings_of_the_command_line_reach_the_recipe(tmp_path: Path) -> None:
    changed = recipe(tmp_path).override(["training.epochs=7", "draws.corrections=0"])
    assert isinstance(changed, HintRecipe)
    assert (changed.training.epochs, changed.draws.corrections) == (7, 0)
    assert changed.with_epochs(0.3).training.epochs == 2
    with pytest.raises(ConfigError, match="key=value"):
        changed.override(["epochs"])
