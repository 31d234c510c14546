from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_plimseg.errors import ConfigError, ModelError, SlideError
from napari_plimseg.inference.promptable.embedding_cache import EmbeddingCache
from napari_plimseg.inference.promptable.geometry import Hint, HintMask
from napari_plimseg.inference.promptable.session import HintSession
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.slide import Region, Slide
from tests.support.prompt_sessions import SIDE, DarkModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MPP = 0.5
SHAPE = (900, 1200)
# middle (y, x) and radius in level-0 pixels
DISCS = {
    "inside": (450, 600, 60), "near": (450, 800, 40), "edge": (300, 0, 70),
    "corner": (899, 1199, 90), "small": (700, 300, 20),
}  # fmt: skip


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = (np.arange(n) + 0.5 for n in shape)
    return np.hypot(rows[:, None] - y, columns[None] - x) < radius


def picture_of(discs: dict[str, tuple[float, float, float]], shape: tuple[int, int]) -> np.ndarray:
    pixels = np.full((*shape, 3), (235, 225, 235), np.uint8)
    for place in discs.values():
        pixels[disc(shape, *place)] = (60, 20, 90)
    return pixels


@pytest.fixture
def slide(tmp_path: Path) -> Iterator[Slide]:
    Image.fromarray(picture_of(DISCS, SHAPE)).save(tmp_path / "discs.png")
    with open_slide(tmp_path / "discs.png") as opened:
        opened.mpp = MPP
        yield opened


@pytest.fixture(scope="module")
def sample(sample_path: Path) -> Iterator[Slide]:
    with open_slide(sample_path) as opened:
        yield opened


def click_on(name: str) -> Hint:
    y, x, _ = DISCS[name]
    return Hint(points=((min(y, SHAPE[0] - 1), min(x, SHAPE[1] - 1), True),))


def box_around(name: str) -> Hint:
    y, x, radius = DISCS[name]
    return Hint(boxes=(Region(y - radius, x - radius, 2 * radius, 2 * radius),))


def on_slide(mask: HintMask, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    rows, columns = (np.arange(n) + 0.5 for n in shape)
    return mask.at(rows, columns)


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("name", list(DISCS))
@pytest.mark.parametrize("hint_of", [click_on, box_around], ids=["click", "box"])
def test_the_mask_lies_on_the_object_also_at_the_slide_s_edge_and_corner(
    slide: Slide, name: str, hint_of: object
) -> None:
    mask = HintSession(slide, DarkModel()).segment([hint_of(name)])  # type: ignore[operator]
    assert overlap(on_slide(mask), disc(SHAPE, *DISCS[name])) > 0.85
    assert mask.score == pytest.approx(0.75)
    assert not mask.is_cut
    box = mask.bounding_box
    assert box is not None
    # nothing lies beside the slide
    assert box.y >= 0
    assert box.x + box.width <= SHAPE[1]


def test_a_box_larger_than_a_patch_is_answered_from_a_coarser_pair(tmp_path: Path) -> None:
    shape, large = (2600, 2600), (1300.0, 1300.0, 1000.0)
    Image.fromarray(picture_of({"large": large}, shape)).save(tmp_path / "large.png")
    with open_slide(tmp_path / "large.png") as slide:
        slide.mpp = MPP
        session = HintSession(slide, DarkModel())
        box = Hint(boxes=(Region(300, 300, 2000, 2000),))
        pair = session.pair_for([box])
        assert pair.downsample == 16  # 2000 / 16 = 125 of 256 pixels; at 8 it were 250
        mask = session.segment([box])
        truth = disc(shape, *large)
        assert overlap(on_slide(mask, shape), truth) > 0.9
        # a click knows nothing of the size: the mask says that it is cut, and more is to be seen
        click = Hint(points=((1300, 1300, True),))
        cut = session.segment([click])
        assert cut.is_cut
        whole = session.segment([click], coarser=3)
        assert not whole.is_cut
        assert overlap(on_slide(whole, shape), truth) > 0.9


def test_several_hints_give_one_mask_or_one_each(slide: Slide) -> None:
    session = HintSession(slide, DarkModel())
    both = [click_on("inside"), box_around("near")]
    truths = [disc(SHAPE, *DISCS[name]) for name in ("inside", "near")]
    together = session.segment(both)
    assert overlap(on_slide(together), truths[0] | truths[1]) > 0.85
    each = session.segment_each([*both, click_on("small")])
    assert len(each) == 3
    for mask, truth in zip(each, [*truths, disc(SHAPE, *DISCS["small"])], strict=True):
        assert overlap(on_slide(mask), truth) > 0.85
    two_boxes = Hint(boxes=(*box_around("inside").boxes, *box_around("near").boxes))
    assert overlap(on_slide(session.segment([two_boxes])), truths[0] | truths[1]) > 0.85


def test_a_negative_point_takes_away_and_a_mask_to_refine_is_seen(slide: Slide) -> None:
    session = HintSession(slide, DarkModel())
    y, x, _ = DISCS["inside"]
    less = session.segment([Hint(points=((y, x - 50, True), (y, x + 30, False)))])
    assert not less.at(np.array([y]), np.array([x + 30])).any()
    assert less.at(np.array([y]), np.array([x - 50])).all()
    # the mask to refine reaches where nothing is dark
    beside = np.zeros((200, 200), np.bool_)
    beside[60:140, 60:140] = True
    before = HintMask(int(y) - 100, int(x) - 100, 1.0, beside, 1.0)
    refined = session.segment([Hint(points=((y, x, True),), mask=before)])
    assert overlap(on_slide(refined), disc(SHAPE, y, x, 60) | on_slide(before)) > 0.8


def test_a_mask_larger_than_a_patch_is_refined_around_the_points(slide: Slide) -> None:
    session = HintSession(slide, DarkModel())
    y, x, _ = DISCS["inside"]
    everything = HintMask(0, 0, 1.0, np.ones(SHAPE, np.bool_), 1.0)
    refined = session.refine(Hint(points=((y, x, False),), mask=everything))
    given_up = on_slide(everything) & ~on_slide(refined)
    assert 0 < given_up.sum() < 100**2
    rows, columns = np.nonzero(given_up)
    assert abs(rows.mean() - y) < 10
    assert abs(columns.mean() - x) < 10
    assert not refined.is_cut, "the mask goes on beyond the patch, its change does not"
    # half of it, with a disc on its edge: the model would take all of that in
    half = HintMask(0, 0, 1.0, np.ones((SHAPE[0], 600), np.bool_), 1.0)
    away = session.refine(Hint(points=((y + 150, x - 80, False),), mask=half))
    assert (on_slide(half) & ~on_slide(away)).any()
    assert not (on_slide(away) & ~on_slide(half)).any(), "nobody pointed at the disc"
    there = session.refine(Hint(points=((y, x + 30, True),), mask=half))
    assert overlap(on_slide(there), on_slide(half) | disc(SHAPE, y, x, 60)) > 0.98
    with pytest.raises(ConfigError, match="no mask"):
        session.refine(click_on("inside"))


def test_the_next_hint_nearby_needs_no_encoder(slide: Slide, tmp_path: Path) -> None:
    model = DarkModel()
    session = HintSession(slide, model, EmbeddingCache(tmp_path / "cache"))
    hint = click_on("inside")
    assert not session.is_prepared([hint])
    session.prepare([hint])
    assert session.is_prepared([hint])
    assert model.encoded == 2
    first = session.segment([hint])
    y, x, _ = DISCS["inside"]
    session.segment([Hint(points=((y + 3, x - 4, True),))])
    assert model.encoded == 2
    again = HintSession(slide, model, EmbeddingCache(tmp_path / "cache")).segment([hint])
    assert model.encoded == 2
    assert np.array_equal(first.mask, again.mask)


def test_a_slide_without_pixel_size_is_refused_until_one_is_assumed(slide: Slide) -> None:
    slide.mpp = None
    hint = click_on("inside")
    with pytest.raises(SlideError, match="Enter it in um"):
        HintSession(slide, DarkModel()).segment([hint])
    assumed = HintSession(slide, DarkModel(), pixel_size=MPP)
    assert assumed.pair_for([hint]).downsample == 1 / MPP
    assert overlap(on_slide(assumed.segment([hint])), disc(SHAPE, *DISCS["inside"])) > 0.85


def test_random_weights_are_refused_and_others_are_named(slide: Slide) -> None:
    model = DarkModel()
    assert HintSession(slide, model).weights_name == "finds what is dark"
    model.weights_name = ""
    with pytest.raises(ModelError, match="random weights"):
        HintSession(slide, model)


def test_fluorescence_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((300, 300, 3), (3, 2, 9), np.uint8)).save(tmp_path / "dark.png")
    with (
        open_slide(tmp_path / "dark.png") as slide,
        pytest.raises(SlideError, match="fluorescence"),
    ):
        HintSession(slide, DarkModel())


@pytest.mark.parametrize("hints", [[], [Hint(points=((-50, 20, True),))]])
def test_no_hint_and_a_hint_beside_the_slide_are_refused(slide: Slide, hints: list[Hint]) -> None:
    with pytest.raises(ConfigError):
        HintSession(slide, DarkModel()).segment(hints)


@pytest.mark.parametrize(
    "place",
    [(1, 1), (2966, 2219), (1500, 1), (1500, 1100)],
    ids=["corner", "end", "edge", "inside"],
)
def test_the_sample_slide_s_pixels_reach_the_model(sample: Slide, place: tuple[int, int]) -> None:
    session = HintSession(sample, DarkModel())
    hint = Hint(points=((*place, True),))
    pair = session.prepare([hint])
    assert pair.downsample == pytest.approx(2.0)  # a whole multiple of 0.499 um/px
    for downsample, y, x in (pair.fine, pair.coarse):
        seen = session._encoded((downsample, y, x)).final
        pixels = sample.read_at(downsample, y, x, SIDE, SIDE)
        expected = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        assert torch.allclose(seen.float(), torch.nn.functional.avg_pool2d(expected, 16), atol=1e-3)
    session.segment([hint])
    assert session.model.seen[0].points[0][:2] == pytest.approx(
        (place[0] / 2 - pair.y, place[1] / 2 - pair.x)
    )
