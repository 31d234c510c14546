"""Evaluating a model whose answers are known, on small images with known masks."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.tissue import TissueClass, TissueClasses
from plimseg_training.commands.evaluate import evaluation_text, left_out, write_image_scores
from plimseg_training.data.scan import scan_folder
from plimseg_training.data.tagged_folder import TaggedFolder, TaggedImage
from plimseg_training.evaluation.scoring import EvaluationProgress, evaluate, mask_of
from tests.support.tagged_folders import mask, picture
from tests.support.trained_models import RGB_CLASSES, ChannelModel

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

SIDE = 64
TWO = TissueClasses(RGB_CLASSES.classes[:2], has_background=False)


def painted(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.eye(4, dtype=np.uint8)[ids][..., 1:] * 200 + 20


def blocks(rows: list[list[int]], side: int = 16) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8).repeat(side, 0).repeat(side, 1)


def folder_of(
    root: Path,
    pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]],
    classes: TissueClasses = RGB_CLASSES,
    mpp: float | None = 0.5,
) -> TaggedFolder:
    """Images that show one array of ids, and truths that hold another (one less, 9 unknown)."""
    images = []
    for i, (shown, truth) in enumerate(pairs):
        path = root / f"{i}.png"
        Image.fromarray(painted(shown)).save(path)
        truth_path = None
        if truth is not None:
            truth_path = root / f"{i}_mask.png"
            Image.fromarray(np.where(truth == 0, 9, truth - 1).astype(np.uint8)).save(truth_path)
        count = len(classes.tissue_ids)
        images.append(
            TaggedImage(
                path, shown.shape, np.array([[0, 0, *shown.shape]]), np.ones((1, count)), str(i),
                truth_path,
            )
        )  # fmt: skip
    truth_ids = {i: i + 1 for i in range(len(classes))}
    return TaggedFolder(root, "names", classes, tuple(images), mpp, truth_ids)


class FewerChannels(ChannelModel):
    """A model of as many channels as classes."""

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        return super().probabilities(images)[:, : len(self.classes)]


SHOWN = blocks([[1, 1, 2, 2]] * 4)
TRUTH = blocks([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 1, 1], [0, 0, 3, 3]])


def test_scores_by_hand_under_every_protocol(tmp_path: Path) -> None:
    seen: list[EvaluationProgress] = []
    found = evaluate(
        ChannelModel(), folder_of(tmp_path, [(SHOWN, TRUTH), (SHOWN, None)]), device="cpu",
        on_progress=seen.append,
    )  # fmt: skip
    a = found.result("A").score
    assert a.confusion.tolist() == [[6 * 256, 2 * 256], [0, 4 * 256]]
    assert a.iou == pytest.approx([6 / 8, 4 / 6])
    assert a.pixel_accuracy == pytest.approx(10 / 12)
    b = found.result("B").score
    assert b.iou == pytest.approx([6 / 8, 4 / 8, 0])
    assert b.miou == pytest.approx((6 / 8 + 4 / 8) / 2)
    assert found.result("C").score.iou == pytest.approx(b.iou)
    assert [r.protocol.key for r in found.results] == ["A", "B", "C"]
    assert [(s.file, s.reason) for s in found.skipped] == [("1.png", "no known mask")]
    assert found.images == 1
    assert seen == [EvaluationProgress(1, 1, "0", 0.0)]
    assert any("512 pixels have no truth" in note for note in found.notes)


def test_tissue_on_background_is_counted_for_a_model_without_background(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(SHOWN, TRUTH)])
    found = evaluate(FewerChannels(TWO), folder, device="cpu")
    # 512 px of background, all predicted as green: 4 blocks are green, 2 more in red's truth
    b = found.result("B")
    assert b.score.confusion.tolist() == [
        [6 * 256, 2 * 256, 0], [0, 4 * 256, 0], [0, 2 * 256, 0],
    ]  # fmt: skip
    assert b.score.miou == pytest.approx((6 / 8 + 4 / 8) / 2)
    assert b.background == (512, 512)
    assert found.result("A").background == (0, 0)
    assert b.to_dict()["background_as_tissue"] == 512
    note = "B: background counted: 512 background pixels are counted, of which 512 are predicted"
    assert any(note in each for each in found.notes)


def test_a_text_model_keeps_its_classes_with_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[TissueClasses | None] = []

    def loaded(name: str, classes: TissueClasses | None = None) -> ChannelModel:
        told.append(classes)
        return FewerChannels(classes or RGB_CLASSES)

    monkeypatch.setattr("napari_plimseg.models.load_model", loaded)
    glands = TissueClasses(
        (TissueClass("gland", (1, 2, 3)), TissueClass("other", (4, 5, 6))), has_background=False
    )
    folder = folder_of(tmp_path, [(SHOWN, SHOWN)], glands)
    assert evaluate("bundled", folder, device="cpu").result("oeem").score.miou == 1.0
    chosen = {"red": "gland", "*": "other"}
    found = evaluate("bundled", folder, device="cpu", class_map=chosen)
    assert found.result("oeem").score.miou == 1.0
    assert told == [glands, None]
    with pytest.raises(ConfigError, match="the model has no class 'purple'") as error:
        evaluate("bundled", folder, device="cpu", class_map={"purple": "gland", "*": "other"})
    assert "red, green, background" in str(error.value)
    with pytest.raises(ConfigError, match="the data has no class 'glands'") as error:
        evaluate("bundled", folder, device="cpu", class_map={"red": "glands", "*": "other"})
    assert "gland, other" in str(error.value)


def test_background_of_the_model_is_never_predicted_under_a(tmp_path: Path) -> None:
    shown = blocks([[3, 3, 1, 2]] * 4)
    rgb = painted(shown)
    rgb[:, :32, 1] += 40  # the blue part is second most green
    folder = folder_of(tmp_path, [(shown, blocks([[2, 3, 1, 2]] * 4))])
    Image.fromarray(rgb).save(folder.images[0].path)
    found = evaluate(ChannelModel(), folder, device="cpu")
    assert found.result("A").score.miou == 1.0
    assert found.result("B").score.iou == pytest.approx([1.0, 0.5, 0.5])


def test_oracle_tags_help_and_are_named_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(SHOWN, np.ones_like(SHOWN))])
    found = evaluate(ChannelModel(), folder, device="cpu")
    assert found.result("A").score.iou[0] == pytest.approx(0.5)
    assert found.result("C").score.iou[0] == 1.0
    text = evaluation_text(found)
    assert "C: oracle tags" in text
    assert "No user has such tags" in text
    assert found.result("C").to_dict()["oracle_tags"] is True


def test_two_classes_get_the_protocol_of_oeem(tmp_path: Path) -> None:
    truth = blocks([[1, 1, 1, 2]] * 4)
    folder = folder_of(tmp_path, [(SHOWN, truth)], TWO)
    found = evaluate(ChannelModel(), folder, device="cpu", protocol="oeem")
    plain = found.result("oeem").to_dict()
    miou = (2 / 3 + 1 / 2) / 2
    assert plain["miou"] == pytest.approx(miou)
    assert plain["oeem_dice"] == pytest.approx(2 * miou / (1 + miou))
    assert plain["true_dice_of_first_class"] == pytest.approx(4 / 5)
    text = evaluation_text(found)
    assert "OEEM-Dice, which is 2m/(1+m), 73.68; true Dice of red 80.00" in text


def test_tta_stands_beside_the_plain_result(tmp_path: Path) -> None:
    found = evaluate(
        ChannelModel(), folder_of(tmp_path, [(SHOWN, TRUTH)]), device="cpu", protocol="A", tta=True
    )
    assert [(r.title, r.tta) for r in found.results] == [
        ("A: tissue only", False), ("A: tissue only, TTA", True),
    ]  # fmt: skip
    # the model is the same from every side
    assert found.results[0].score.iou == pytest.approx(found.results[1].score.iou)


def test_images_are_predicted_at_the_model_s_pixel_size(tmp_path: Path) -> None:
    shown = blocks([[1, 2], [2, 1]], 64)
    fine = folder_of(tmp_path, [(shown, shown)], mpp=0.25)
    model = ChannelModel()
    found = evaluate(model, fine, device="cpu", protocol="A")
    assert model.shapes == [(1, 64, 64, 3)]
    assert found.result("A").score.pixels == 128 * 128
    assert found.result("A").score.miou > 0.95
    assert not found.notes
    unknown = folder_of(tmp_path, [(shown, shown)], mpp=None)
    assert "pixel size of the images is unknown" in evaluate(model, unknown, device="cpu").notes[0]


def test_an_unreadable_image_is_listed_and_the_others_count(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(SHOWN, SHOWN), (SHOWN, SHOWN), (SHOWN, SHOWN)])
    folder.images[1].path.write_bytes(b"no picture")
    assert folder.images[2].truth is not None
    folder.images[2].truth.unlink()
    found = evaluate(ChannelModel(), folder, device="cpu")
    assert found.images == 1
    assert [s.file for s in found.skipped] == ["1.png", "2.png"]
    assert "Not scored, 2 images" in evaluation_text(found)
    folder.images[0].path.unlink()
    with pytest.raises(TagError, match="none of its images could be scored"):
        evaluate(ChannelModel(), folder, device="cpu")


def test_nothing_to_measure_is_said(tmp_path: Path) -> None:
    with pytest.raises(TagError, match="no image has a known mask"):
        evaluate(ChannelModel(), folder_of(tmp_path, [(SHOWN, None)]), device="cpu")
    folder = folder_of(tmp_path, [(SHOWN, SHOWN)])
    with pytest.raises(ConfigError, match="two classes"):
        evaluate(ChannelModel(), folder, device="cpu", protocol="oeem")
    other = TissueClasses((TissueClass("gland", (1, 2, 3)), *RGB_CLASSES.classes[1:]))
    with pytest.raises(ConfigError, match="no class 'gland' of the model"):
        evaluate(ChannelModel(other), folder, device="cpu")
    found = evaluate(ChannelModel(other), folder, device="cpu", class_map={"gland": "red"})
    assert found.result("A").score.miou == 1.0
    found = evaluate(ChannelModel(other), folder, device="cpu", class_map={"gland": "-"})
    assert any("can't predict: red" in note for note in found.notes)


def test_what_is_printed_and_written_can_be_read_again(tmp_path: Path) -> None:
    found = evaluate(
        ChannelModel(), folder_of(tmp_path, [(SHOWN, TRUTH), (SHOWN, SHOWN)]), device="cpu"
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["results"][0]["miou"] == pytest.approx(found.result("A").score.miou)
    write_image_scores(tmp_path / "images.csv", found)
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["0", "1"] * 3
    assert float(rows[1]["miou"]) == 1.0
    assert rows[0]["background"] == ""
    assert float(rows[0]["green"]) == pytest.approx(4 / 6, abs=1e-6)
    assert float(rows[0]["pixel accuracy"]) == pytest.approx(10 / 12, abs=1e-6)
    of_green = [rows[0][f"green, {of} px"] for of in ("truth", "mask", "both")]
    assert of_green == [str(4 * 256), str(6 * 256), str(4 * 256)]
    assert (rows[0]["pixels"], rows[0]["background, truth px"]) == (str(12 * 256), "")
    under_b = rows[2]
    assert under_b["protocol"] == "B: background counted"
    assert (under_b["pixels"], under_b["background, truth px"]) == (str(14 * 256), "512")


def test_a_gate_is_only_asked_of_models_that_have_one(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(SHOWN, TRUTH)])
    with pytest.raises(ConfigError, match="no class gate"):
        evaluate(ChannelModel(), folder, protocol="A", device="cpu", gate=True)
    assert evaluate(ChannelModel(), folder, protocol="A", device="cpu", gate=False).images == 1


def test_masks_choose_among_what_is_allowed() -> None:
    probabilities = np.array([0.2, 0.5, 0.3], np.float32).reshape(3, 1, 1)
    assert mask_of(probabilities).tolist() == [[2]]
    assert mask_of(probabilities, np.array([True, False, True])).tolist() == [[3]]


def test_what_is_not_scored_is_said_once_for_each_reason(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / "img" / f"{name}.png")
    mask(tmp_path / "mask" / "a.png", np.ones((40, 48)))
    (tmp_path / "mask" / "d.png").write_bytes(b"")
    report = scan_folder(tmp_path, classes=RGB_CLASSES, mpp=0.5, split="test")
    assert [image.name for image in report.raise_if_fatal().images] == ["a"]
    missing, empty = left_out(report)
    assert missing.startswith("b.png and 1 more: there is no mask of this name")
    assert empty.startswith("mask/d.png: the mask can't be used: the file is empty")
