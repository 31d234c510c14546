"""Protocols against a direct transcription of the published scripts, and numbers by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.errors import ConfigError
from napari_plimseg.tissue import BCSS_WSSS, GLAS, LUAD_HISTOSEG, TissueClass, TissueClasses
from plimseg_training.evaluation.metrics import Score, confusion_matrix
from plimseg_training.evaluation.protocols import PROTOCOLS, chosen_protocols

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = np.array([[1, 1, 1, 2], [2, 2, 5, 0]], np.uint8)  # truth; 5 is background, 0 unknown
FOUND = np.array([[1, 1, 2, 2], [2, 1, 1, 2]], np.uint8)


def cases(count: int, classes: int, background: bool) -> list[tuple[NDArray, NDArray]]:
    rng = np.random.default_rng(5)
    last = classes + (1 if background else 0)
    return [
        (
            rng.integers(0, last + 1, (17, 23), dtype=np.uint8),
            rng.random((last, 17, 23), dtype=np.float32),
        )
        for _ in range(count)
    ]


def predicted(probabilities: NDArray, allowed: NDArray) -> NDArray:
    masked = np.where(allowed[:, None, None], probabilities, -np.inf)
    return (masked.argmax(0) + 1).astype(np.uint8)


def score_of(key: str, pairs: list[tuple[NDArray, NDArray]], classes: TissueClasses) -> Score:
    protocol = PROTOCOLS[key]
    total: Score | None = None
    for truth, probabilities in pairs:
        allowed = protocol.predictable(classes, truth, np.ones(len(classes), bool))
        one = protocol.score(truth, predicted(probabilities, allowed), classes)
        total = one if total is None else total + one
    assert total is not None
    return total


def fast_hist(label: NDArray, found: NDArray, n: int) -> NDArray:
    """The published confusion count: labels from 0; others are dropped."""
    hist = np.zeros((n, n))
    for a, b in zip(label.ravel(), found.ravel(), strict=True):
        if 0 <= a < n:
            hist[int(a), int(b)] += 1
    return hist


def test_protocol_a_is_the_published_script() -> None:
    pairs = cases(3, 4, background=True)
    hist = np.zeros((4, 4))
    for truth, probabilities in pairs:
        label = truth.astype(int) - 1  # 0..3 tissue, 4 white; -1 unknown
        hist += fast_hist(np.where(label == 4, -1, label), probabilities[:4].argmax(0), 4)
    iou = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist))
    freq = hist.sum(1) / hist.sum()
    got = score_of("A", pairs, LUAD_HISTOSEG)
    np.testing.assert_array_equal(got.confusion, hist)
    np.testing.assert_allclose(got.iou, iou)
    assert got.miou == pytest.approx(iou.mean())
    assert got.fwiou == pytest.approx((freq * iou).sum())
    assert got.pixel_accuracy == pytest.approx(np.diag(hist).sum() / hist.sum())
    np.testing.assert_allclose(got.dice, 2 * iou / (1 + iou))
    assert got.mean_dice == pytest.approx((2 * iou / (1 + iou)).mean())
    assert got.dice_of_miou == pytest.approx(2 * iou.mean() / (1 + iou.mean()))
    assert got.names == LUAD_HISTOSEG.names[:4]


def test_protocol_b_counts_background_and_means_over_tissue() -> None:
    pairs = cases(3, 4, background=True)
    hist = np.zeros((5, 5))
    for truth, probabilities in pairs:
        hist += fast_hist(truth.astype(int) - 1, probabilities.argmax(0), 5)
    iou = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist))
    got = score_of("B", pairs, BCSS_WSSS)
    np.testing.assert_array_equal(got.confusion, hist)
    assert got.miou == pytest.approx(iou[:-1].mean())
    assert got.miou != pytest.approx(iou.mean())
    freq = hist[:4].sum(1) / hist[:4].sum()
    assert got.fwiou == pytest.approx((freq * iou[:4]).sum())


def test_protocol_c_masks_what_the_truth_lacks() -> None:
    rng = np.random.default_rng(9)
    pairs = [
        (rng.choice(np.array(ids, np.uint8), (9, 11)), rng.random((5, 9, 11), dtype=np.float32))
        for ids in ((0, 1, 5), (2, 4), (3, 5))
    ]
    hist = np.zeros((5, 5))
    for truth, probabilities in pairs:
        tags = np.array([(truth == k).any() for k in (1, 2, 3, 4)] + [True])
        oracle = probabilities * tags[:, None, None]  # probabilities are positive
        hist += fast_hist(truth.astype(int) - 1, oracle.argmax(0), 5)
    got = score_of("C", pairs, BCSS_WSSS)
    np.testing.assert_array_equal(got.confusion, hist)
    assert got.miou > score_of("B", pairs, BCSS_WSSS).miou
    assert "oracle tags" in PROTOCOLS["C"].title
    assert not any("oracle" in PROTOCOLS[k].title for k in ("A", "B", "oeem"))


def test_an_oracle_that_leaves_nothing_is_not_used() -> None:
    no_background = TissueClasses(BCSS_WSSS.classes[:4], has_background=False)
    truth = np.zeros((2, 2), np.uint8)
    allowed = PROTOCOLS["C"].predictable(no_background, truth, np.ones(4, bool))
    assert allowed.all()
    # a background that the model does not have can't be predicted either
    known = np.array([True, True, True, True, False])
    allowed = PROTOCOLS["C"].predictable(BCSS_WSSS, truth, known)
    assert allowed.tolist() == known.tolist()


def test_oeem_is_the_published_count_over_two_classes() -> None:
    pairs = [(np.clip(t, 1, 2), p) for t, p in cases(3, 2, background=False)]
    inter, union = np.zeros(2), np.zeros(2)
    for truth, probabilities in pairs:
        found = probabilities.argmax(0) + 1
        for k in (1, 2):
            inter[k - 1] += ((truth == k) & (found == k)).sum()
            union[k - 1] += ((truth == k) | (found == k)).sum()
    got = score_of("oeem", pairs, GLAS)
    miou = (inter / union).mean()
    assert got.miou == pytest.approx(miou)
    assert got.dice_of_miou == pytest.approx(2 * miou / (1 + miou))
    gland_and_background = TissueClasses(
        (TissueClass("gland", (1, 2, 3)), TissueClass("background", (9, 9, 9)))
    )
    assert score_of("oeem", pairs, gland_and_background).miou == pytest.approx(miou)


def test_all_gland_shows_how_far_the_two_dice_are_apart() -> None:
    truth = np.ones((100, 100), np.uint8)
    truth[:, 51:] = 2
    got = PROTOCOLS["oeem"].score(truth, np.ones_like(truth), GLAS)
    assert got.miou == pytest.approx(0.51 / 2)
    assert got.dice_of_miou == pytest.approx(2 * 0.255 / 1.255)
    assert got.dice[0] == pytest.approx(2 * 51 / 151)


def test_a_and_b_by_hand() -> None:
    a = PROTOCOLS["A"].score(ROWS, FOUND, BCSS_WSSS)
    assert a.pixels == 6
    assert a.iou[:2] == pytest.approx([2 / 4, 2 / 4])
    assert np.isnan(a.iou[2:]).all()
    assert a.miou == pytest.approx(0.5)
    b = PROTOCOLS["B"].score(ROWS, FOUND, BCSS_WSSS)
    assert b.pixels == 7
    assert b.iou[:2] == pytest.approx([2 / 5, 2 / 4])
    assert b.iou[4] == 0
    assert b.miou == pytest.approx(0.45)


def test_pixels_are_pooled_over_images() -> None:
    big = (np.ones((10, 10), np.uint8), np.ones((10, 10), np.uint8))
    small = (np.full((1, 2), 2, np.uint8), np.array([[1, 2]], np.uint8))
    both = PROTOCOLS["A"].score(*big, GLAS) + PROTOCOLS["A"].score(*small, GLAS)
    assert both.iou == pytest.approx([100 / 101, 1 / 2])


def test_nothing_counted_is_no_score() -> None:
    empty = PROTOCOLS["A"].score(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), GLAS)
    assert all(math.isnan(v) for v in (empty.miou, empty.fwiou, empty.pixel_accuracy))
    assert empty.to_dict()["miou"] is None


def test_which_protocols_all_means() -> None:
    assert [p.key for p in chosen_protocols("all", LUAD_HISTOSEG)] == ["A", "B", "C"]
    assert [p.key for p in chosen_protocols("all", GLAS)] == ["A", "C", "oeem"]
    assert [p.key for p in chosen_protocols("b", GLAS)] == ["B"]
    with pytest.raises(ConfigError, match="two classes"):
        chosen_protocols("oeem", LUAD_HISTOSEG)
    with pytest.raises(ConfigError, match="no protocol 'D'"):
        chosen_protocols("D", GLAS)


@pytest.mark.parametrize(
    ("truth", "mask"), [([[1, 2]], [[1]]), ([[3]], [[1]]), ([[1]], [[3]]), ([[1]], [[0]])]
)
def test_wrong_pairs_are_refused(truth: list[list[int]], mask: list[list[int]]) -> None:
    with pytest.raises(ConfigError):
        confusion_matrix(np.array(truth, np.uint8), np.array(mask, np.uint8), 2)


def test_scores_of_different_classes_do_not_pool() -> None:
    one = Score(np.eye(2, dtype=np.int64), ("a", "b"), (0, 1))
    with pytest.raises(ConfigError):
        one + Score(np.eye(2, dtype=np.int64), ("a", "b"), (0,))
    with pytest.raises(ConfigError):
        Score(np.eye(2, dtype=np.int64), ("a", "b"), (2,))
