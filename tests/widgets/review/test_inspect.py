"""The section *Inspect*: outlines, uncertain regions, comparison, areas."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from qtpy.QtGui import QGuiApplication

from napari_plimseg._widgets.review.inspect.jobs import StoppableMask
from napari_plimseg._widgets.review.inspect.section import InspectSection
from napari_plimseg._widgets.review.inspect.uncertain_regions import GROWING
from napari_plimseg._widgets.viewer.camera import get_camera
from napari_plimseg._widgets.viewer.mask_layer import MaskView
from napari_plimseg._widgets.viewer.napari_private import canvas_size
from napari_plimseg._widgets.viewer.outlines import SCREEN_PIXELS, outline_ids, without_specks
from napari_plimseg.errors import ConfigError
from napari_plimseg.results.analysis.review_log import ReviewedRegion, ReviewLog
from tests.support.masks import blobs, drawn, info_for
from tests.support.stores import write_columns, written_store
from tests.support.widgets import ArraySlide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg.results.mask_store import MaskStore

pytestmark = pytest.mark.gui
WAIT = 20_000
UNSURE = ((20, 30, 40, 50, 100), (100, 150, 40, 40, 110), (150, 20, 30, 30, 60))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MaskStore]:
    """A mask of tissue with a hole of glass, 8 um a pixel, unsure in three places."""
    mask = np.full((256, 240), 2, np.uint8)
    mask[180:220, 150:200] = 9
    mask[:, 120:] = np.where(mask[:, 120:] == 2, 3, mask[:, 120:])
    confidence = np.full(mask.shape, 250, np.uint8)
    for y, x, height, width, value in UNSURE:
        confidence[y : y + height, x : x + width] = value
    info = info_for(mask, mpp=2.0, name="slide.tif")
    with written_store(tmp_path / "slide.plimseg", info, mask, confidence, 128) as store:
        yield store


@pytest.fixture
def open_view(make_napari_viewer_proxy: Callable, tmp_path: Path, store: MaskStore) -> Callable:
    """Returns a function that shows a store in the viewer."""
    viewer = make_napari_viewer_proxy()
    slide = ArraySlide(tmp_path / "slide.tif", np.full((1024, 960, 3), 200, np.uint8), 2.0)

    def show(shown: MaskStore = store) -> MaskView:
        return MaskView(
            viewer, slide, shown, shown.read_classes(), shown.info.classes, slide_stem="slide"
        )

    show.viewer = viewer  # type: ignore[attr-defined]
    return show


@pytest.fixture
def section(open_view: Callable) -> Iterator[InspectSection]:
    """The section in a dock, without a mask."""
    viewer = open_view.viewer
    section = InspectSection(viewer)
    viewer.window.add_dock_widget(section, name="judge", area="right")
    viewer.window.resize(1200, 760)
    yield section
    section.stop_and_wait()


@pytest.fixture
def told(section: InspectSection) -> list[tuple[str, str]]:
    """What was said in the banner."""
    told: list[tuple[str, str]] = []
    section.messageEmitted.connect(lambda kind, text: told.append((kind, text)))
    return told


@pytest.fixture
def listed(section: InspectSection, open_view: Callable, qtbot) -> MaskView:  # type: ignore[no-untyped-def]
    """The mask is shown and its worklist is there."""
    view: MaskView = open_view()
    section.set_view(view)
    section.review.search()
    qtbot.waitUntil(lambda: section.review.regions is not None, timeout=WAIT)
    return view


def boxes(section: InspectSection) -> list[tuple[int, int, int, int]]:
    assert section.review.regions is not None
    return [(r.y, r.x, r.height, r.width) for r in section.review.regions]


def visible_box(viewer) -> tuple[float, float, float, float]:  # type: ignore[no-untyped-def]
    """World top, left, bottom, right of the window."""
    view = get_camera(viewer)
    half = np.array(canvas_size(viewer)) / view.zoom / 2
    top, left = np.asarray(view.center[-2:]) - half
    bottom, right = np.asarray(view.center[-2:]) + half
    return top, left, bottom, right


def test_without_a_mask_everything_says_why(section: InspectSection) -> None:
    for button in (
        section.worklist.next_button,
        section.worklist.reviewed_button,
        section.worklist.view_button,
        section.worklist.refresh_button,
        section.compare.button,
    ):
        assert not button.isEnabled()
        assert "generate one first" in button.toolTip().casefold()
    section.toggle_outlines()
    section.review.go_to_next()
    section.review.mark_reviewed()
    section.review.mark_view_reviewed()
    assert not section.show_panel.outlines.isChecked()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["1122", "1122"], ["0110", "0110"]),
        (["1111", "1111"], ["0000", "0000"]),
        (["111", "121", "111"], ["010", "121", "010"]),
    ],
)
def test_lines_lie_on_both_sides_of_a_border(rows: list[str], expected: list[str]) -> None:
    found = outline_ids(drawn(rows), 1) > 0
    wanted = drawn(expected) > 0
    np.testing.assert_array_equal(found, wanted)


def test_thick_lines_reach_inwards() -> None:
    ids = np.full((20, 20), 1, np.uint8)
    ids[5:15, 5:15] = 2
    lines = outline_ids(ids, 2)
    assert (lines[5:15, 5:15] == 2).sum() == 100 - 36
    assert (lines[7:13, 7:13] == 0).all()
    assert (lines[3:5, 5:15] == 1).all()
    assert (lines[:3] == 0).all()


def test_specks_and_hairs_go_and_the_rest_stays() -> None:
    ids = blobs((60, 80), 3)
    ids[10, 10] = ids[20, 20:23] = 77
    cleaned = without_specks(ids)
    assert 77 not in cleaned
    np.testing.assert_array_equal(without_specks(cleaned)[2:-2, 2:-2], cleaned[2:-2, 2:-2])
    solid = np.kron(blobs((20, 20), 1), np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(without_specks(solid), solid)
    np.testing.assert_array_equal(without_specks(ids[:1]), ids[:1])


def test_outlines_are_as_thick_on_the_screen_at_every_zoom(
    section: InspectSection,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    view = open_view()
    section.set_view(view)
    viewer = open_view.viewer
    section.toggle_outlines()
    outline = section.show_panel.outline
    assert outline is not None
    assert view.layer.opacity == 0
    for zoom in (0.05, 0.3, 2.0, 8.0):
        get_camera(viewer).center = (1024.0, 960.0)  # on the border between classes 2 and 3
        get_camera(viewer).zoom = zoom
        qtbot.waitUntil(
            lambda zoom=zoom: outline.layer.scale[0] == pytest.approx(1 / zoom), timeout=WAIT
        )
        layer = outline.layer
        middle = np.asarray(layer.world_to_data((1000.0, 960.0)))
        row = layer.data[round(middle[0])]
        at = np.flatnonzero(row)
        near = at[np.abs(at - middle[1]) < 12]
        assert len(near) == 2 * SCREEN_PIXELS  # in samples of one screen pixel
        assert list(row[near]) == [2] * SCREEN_PIXELS + [3] * SCREEN_PIXELS
        border = layer.data_to_world((0, near[SCREEN_PIXELS] - 0.5))[1]
        assert border == pytest.approx(120 * 16 / 2 - 1, abs=1.01 * max(16 / 2, 1 / zoom))
    section.toggle_outlines()
    assert section.show_panel.outline is None
    assert view.layer.opacity == 0.5
    assert len(viewer.layers) == 1


def test_outlines_follow_what_is_painted(
    section: InspectSection,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    view = open_view()
    section.set_view(view)
    section.toggle_outlines()
    outline = section.show_panel.outline
    assert outline is not None
    assert 5 not in outline.layer.data
    rows, columns = np.mgrid[50:90, 50:90].reshape(2, -1)
    view.layer.data_setitem((rows, columns), np.full(rows.size, 5, np.uint8))
    qtbot.waitUntil(lambda: 5 in outline.layer.data, timeout=WAIT)
    view.layer.undo()
    qtbot.waitUntil(lambda: 5 not in outline.layer.data, timeout=WAIT)


def test_outlines_have_the_colors_of_the_classes(
    section: InspectSection, open_view: Callable
) -> None:
    view = open_view()
    section.set_view(view)
    section.toggle_outlines()
    outline = section.show_panel.outline
    assert outline is not None
    section.show_panel.sliders["stroma"].setValue(0)
    section.show_panel.sliders["normal mucosa"].setValue(40)
    shown = outline.layer.colormap.color_dict
    assert shown[3][3] == 0
    assert shown[2][3] == 1
    assert view.layer.colormap.color_dict[2][3] == pytest.approx(0.4)
    assert shown[9][3] == 0  # background is not outlined


def test_deleting_the_outlines_brings_the_fill_back(
    section: InspectSection, open_view: Callable
) -> None:
    view = open_view()
    section.set_view(view)
    section.show_panel.fill.setValue(70)
    section.toggle_outlines()
    assert section.show_panel.outline is not None
    open_view.viewer.layers.remove(section.show_panel.outline.layer)
    assert not section.show_panel.outlines.isChecked()
    assert view.layer.opacity == pytest.approx(0.7)


def test_uncertainty_is_shown_and_taken_away(
    section: InspectSection,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    section.set_view(open_view())
    section.show_panel.uncertainty.setChecked(True)
    qtbot.waitUntil(lambda: section.show_panel.overlay is not None, timeout=WAIT)
    values = section.show_panel.overlay.layer.data
    assert values[30, 40] == round(155 / 2.55)  # percent
    assert values[0, 0] == round(5 / 2.55)
    section.show_panel.uncertainty.setChecked(False)
    assert len(open_view.viewer.layers) == 1


@pytest.fixture
def begun(tmp_path: Path, store: MaskStore) -> Iterator[MaskStore]:
    """A result of which half the tiles are done, and none of them is unsure."""
    mask = store.read_classes()
    sure = np.full(mask.shape, 250, np.uint8)
    with written_store(tmp_path / "begun.plimseg", store.info, mask, sure, 128, 1) as begun:
        yield begun


def test_no_region_is_not_said_of_an_unfinished_mask(
    section: InspectSection,
    open_view: Callable,
    store: MaskStore,
    begun: MaskStore,
    monkeypatch: pytest.MonkeyPatch,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setattr(section, "isVisible", lambda: True)
    view = open_view(begun)
    section.set_view(view)
    panel, review = section.worklist, section.review
    section.show_panel.uncertainty.setChecked(True)
    qtbot.waitUntil(lambda: section.show_panel.overlay is not None, timeout=WAIT)
    qtbot.waitUntil(lambda: review.regions is not None, timeout=WAIT)
    assert panel.status.text().startswith(
        "No large uncertain region in the finished part (50 % of the slide)."
    )
    view.set_growing(True)
    assert panel.status.text() == GROWING
    for button in (panel.next_button, panel.refresh_button):
        assert not button.isEnabled()
        assert button.toolTip() == GROWING
    review.go_to_next()  # its key
    review.search()
    assert review.regions is None
    rows, columns = (slice(0, side) for side in store.info.shape)
    mask, confidence = store.read_classes(), store.read("confidence", rows, columns)
    write_columns(begun, mask, confidence, 128, slice(1, None))
    view.take(mask)
    view.set_growing(False)  # the search is repeated without a click
    qtbot.waitUntil(lambda: bool(review.regions), timeout=WAIT)
    assert "left. 0 % of the tissue reviewed." in panel.status.text()
    assert "finished part" not in panel.status.text()
    assert review.position is None  # the view stays where it is

    def renewed() -> bool:
        overlay = section.show_panel.overlay
        return overlay is not None and overlay.layer.data[110, 160] == round((255 - 110) / 2.55)

    qtbot.waitUntil(renewed, timeout=WAIT)


def test_a_list_found_while_a_run_began_is_dropped(
    section: InspectSection,
    open_view: Callable,
    monkeypatch: pytest.MonkeyPatch,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setattr(section, "isVisible", lambda: True)
    view = open_view()
    section.set_view(view)
    assert section.review._search.is_running
    view.set_growing(True)
    qtbot.waitUntil(lambda: not section.review._search.is_running, timeout=WAIT)
    assert section.review.regions is None
    assert section.worklist.status.text() == GROWING
    view.set_growing(False)
    qtbot.waitUntil(lambda: bool(section.review.regions), timeout=WAIT)


def test_the_worklist_is_shown(section: InspectSection, listed: MaskView) -> None:
    assert boxes(section) == [blob[:4] for blob in UNSURE]
    table = section.worklist.table
    assert table.rowCount() == 3
    row = [table.item(0, column).text() for column in range(5)]
    assert row == ["", "1", "0.128", "39 %", "normal mucosa"]
    assert "3 of 3 left. 0 % of the tissue" in section.worklist.status.text()


def frame_on_screen(viewer) -> float:  # type: ignore[no-untyped-def]
    frame = viewer.layers["uncertain region"]
    return float(frame.edge_width[0] * frame.scale[-1] * get_camera(viewer).zoom)


def test_next_moves_the_window_onto_the_region(
    section: InspectSection, listed: MaskView, open_view: Callable
) -> None:
    viewer = open_view.viewer
    for expected in UNSURE:
        section.review.go_to_next()
        y, x, height, width = (8 * v for v in expected[:4])
        top, left, bottom, right = visible_box(viewer)
        assert top < y < y + height < bottom
        assert left < x < x + width < right
        assert min(bottom - top, right - left) >= 399
        frame = viewer.layers["uncertain region"]
        world = [frame.data_to_world(corner) for corner in frame.data[0]]
        np.testing.assert_allclose(np.min(world, 0), [y - 1, x - 1])
        np.testing.assert_allclose(np.max(world, 0), [y + height - 1, x + width - 1])
        assert viewer.layers.selection.active == listed.layer
        assert frame_on_screen(viewer) == pytest.approx(3)
    get_camera(viewer).zoom /= 5
    assert frame_on_screen(viewer) == pytest.approx(3)  # else it is dotted
    section.review.go_to_next()
    assert section.review.position == 0  # from the last to the first again


def test_marking_walks_on_and_is_there_after_reopening(
    section: InspectSection,
    listed: MaskView,
    open_view: Callable,
    store: MaskStore,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    review = section.review
    review.go_to_next()
    review.mark_reviewed()
    assert review.position == 1
    assert section.worklist.table.item(0, 0).text() == "✓"
    assert "2 of 3 left" in section.worklist.status.text()
    (kept,) = ReviewLog(store).regions
    assert (kept.y, kept.x, kept.height, kept.width) == tuple(4 * v for v in UNSURE[0][:4])
    tissue = np.isin(store.read_classes(), store.info.classes.tissue_ids).sum()
    qtbot.waitUntil(lambda: review.share == pytest.approx(2000 / tissue), timeout=WAIT)

    section.set_view(None)
    section.set_view(listed)
    review.search()
    qtbot.waitUntil(lambda: review.regions is not None, timeout=WAIT)
    assert boxes(section) == [blob[:4] for blob in UNSURE[1:]]
    assert review.share == pytest.approx(2000 / tissue)
    for _ in range(2):
        review.go_to_next()
        review.mark_reviewed()
    assert review.position is None
    assert "All uncertain regions are reviewed" in section.worklist.next_button.toolTip()
    assert "uncertain region" not in open_view.viewer.layers


def test_a_review_can_be_taken_back(
    section: InspectSection, listed: MaskView, store: MaskStore
) -> None:
    section.review.toggle(1)
    assert len(ReviewLog(store).regions) == 1
    section.worklist.table.cellClicked.emit(1, 0)
    assert ReviewLog(store).regions == ()
    assert section.worklist.table.item(1, 0).text() == ""


def test_marking_the_view_ticks_what_lies_in_it(
    section: InspectSection, listed: MaskView, open_view: Callable, store: MaskStore, told: list
) -> None:
    section.worklist.table.cellClicked.emit(2, 1)
    section.review.mark_view_reviewed()
    assert [r.reviewed for r in section.review.regions] == [False, False, True]
    open_view.viewer.reset_view()
    section.review.mark_view_reviewed()
    assert all(r.reviewed for r in section.review.regions)
    whole = ReviewLog(store).regions[-1]
    assert (whole.y, whole.x, whole.height, whole.width) == (0, 0, 1024, 960)
    get_camera(open_view.viewer).center = (-1e6, -1e6)
    section.review.mark_view_reviewed()
    assert "outside the current view" in told[-1][1]


def test_what_was_corrected_is_no_longer_uncertain(
    section: InspectSection,
    listed: MaskView,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    y, x, height, width = UNSURE[0][:4]
    rows, columns = np.mgrid[y : y + height, x : x + width].reshape(2, -1)
    listed.layer.data_setitem((rows, columns), np.full(rows.size, 5, np.uint8))
    assert listed.recorder is not None
    qtbot.waitUntil(lambda: listed.corrected_pixels == rows.size, timeout=WAIT)
    before = section.review.regions
    section.worklist.refresh_button.click()
    qtbot.waitUntil(lambda: section.review.regions is not before, timeout=WAIT)
    assert boxes(section) == [blob[:4] for blob in UNSURE[1:]]


def test_a_damaged_list_is_reported_once(
    section: InspectSection, open_view: Callable, store: MaskStore, told: list
) -> None:
    (store.path / "reviewed.json").write_text("{", "utf-8")
    section.set_view(open_view())
    assert [kind for kind, _ in told] == ["error"]
    assert "was renamed" in told[0][1]
    assert section.review.log is not None


def test_a_disk_that_refuses_is_said(
    section: InspectSection, listed: MaskView, monkeypatch: pytest.MonkeyPatch, told: list
) -> None:
    from napari_plimseg.results.analysis import review_log

    def refuse(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review_log, "write_checked", refuse)
    section.review.go_to_next()
    section.review.mark_reviewed()
    assert "disk is full" in told[-1][1]
    assert section.review.position == 0
    assert not section.review.regions[0].reviewed


def wait_for_comparison(section: InspectSection, qtbot, start: Callable[[], None]) -> None:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(section.compare.compared, timeout=WAIT):
        start()


def test_comparison_with_a_file(
    section: InspectSection,
    open_view: Callable,
    tmp_path: Path,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    view = open_view()
    section.set_view(view)
    truth = view.layer.data.copy()
    truth[:64] = 5
    tifffile.imwrite(tmp_path / "truth.tif", truth[::2, ::2])
    compare = section.compare
    wait_for_comparison(section, qtbot, lambda: compare.compare_with_file(tmp_path / "truth.tif"))
    assert "truth.tif" in compare.summary.text()
    assert "pixel accuracy 75.0" in compare.summary.text()
    table = compare.table
    scores = {
        table.item(row, 0).text(): [table.item(row, c).text() for c in range(1, 5)]
        for row in range(table.rowCount())
    }
    area = 64 * 120 * 64e-6
    assert scores["normal mucosa"] == ["75.0", "85.7", f"{3 * area:.3f}", f"{4 * area:.3f}"]
    assert scores["muscle"] == ["0.0", "0.0", f"{2 * area:.3f}", "0.000"]
    layer = open_view.viewer.layers["differences from truth.tif"]
    assert (layer.data[:64] == 2).all()
    assert (layer.data[64:] == 1).all()
    np.testing.assert_allclose(layer.scale, view.layer.scale)
    np.testing.assert_allclose(layer.translate, view.layer.translate)

    compare.copy_button.click()
    assert "pixel accuracy,0.7500" in QGuiApplication.clipboard().text()
    wait_for_comparison(section, qtbot, lambda: compare.background.setChecked(False))
    assert "background" not in [table.item(row, 0).text() for row in range(table.rowCount())]
    row = list(compare.shown.mapping).index(5)
    choice = compare.mapping.cellWidget(row, 1)
    wait_for_comparison(section, qtbot, lambda: choice.activated.emit(2))
    assert compare.shown.mapping[5] == 2
    compare.close_button.click()
    assert list(open_view.viewer.layers) == [view.layer]
    assert not compare.table.isVisibleTo(section)


def test_a_comparison_follows_the_edits_of_the_classes(
    section: InspectSection, open_view: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    view, compare = open_view(), section.compare
    section.set_view(view)
    view.reclassed.connect(lambda event: section.follow_classes(event.change))
    other = open_view.viewer.add_labels(
        view.layer.data.copy(), scale=view.layer.scale, translate=view.layer.translate
    )
    wait_for_comparison(section, qtbot, lambda: compare.compare_with_layer(other))

    def scores() -> dict[str, str]:
        table = compare.table
        return {
            table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())
        }

    second, third = view.info.classes.names[1:3]
    edits = view.edits.renamed(second, "wall")
    wait_for_comparison(section, qtbot, lambda: view.edit_classes(edits))
    assert scores()["wall"] == "100.0"
    assert second not in scores()
    wait_for_comparison(section, qtbot, lambda: view.edit_classes(edits.merged(third, "wall")))
    assert scores()["wall"] == "100.0"  # both numbers of the other mask are this class now
    assert third not in scores()


def test_a_comparison_can_be_cancelled(
    section: InspectSection,
    open_view: Callable,
    told: list[tuple[str, str]],
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_plimseg._widgets.review.inspect import comparison

    gate, real = threading.Event(), comparison.mask_of_labels

    def late(*arguments: Any) -> Any:
        assert gate.wait(WAIT / 1000)
        return real(*arguments)

    monkeypatch.setattr(comparison, "mask_of_labels", late)
    view, compare = open_view(), section.compare
    section.set_view(view)
    assert not compare.cancel_button.isVisibleTo(section)
    compare.compare_with_layer(view.layer)
    assert compare.cancel_button.isVisibleTo(section)
    compare.cancel_button.click()
    assert told == [("info", "Comparison cancelled.")]
    assert not compare.cancel_button.isVisibleTo(section)
    gate.set()
    qtbot.waitUntil(lambda: compare.button.isEnabled(), timeout=WAIT)
    assert compare.shown is None
    assert len(told) == 1  # it is no error
    wait_for_comparison(section, qtbot, lambda: compare.compare_with_layer(view.layer))


def test_reading_a_mask_ends_when_it_is_cancelled() -> None:
    stopped = threading.Event()
    mask = StoppableMask(np.zeros((4, 4), np.uint8), stopped)
    assert mask.shape == (4, 4)
    assert mask[:2].shape == (2, 4)
    stopped.set()
    with pytest.raises(ConfigError, match="cancelled"):
        mask[2:]


def test_the_reviewed_share_is_that_of_the_classes_as_edited(
    listed: MaskView, section: InspectSection, qtbot
) -> None:  # type: ignore[no-untyped-def]
    listed.reclassed.connect(lambda event: section.follow_classes(event.change))
    names = listed.info.classes.names
    edits = listed.edits.merged(names[2], names[1])
    for name in (names[0], *names[3:-1]):
        edits = edits.deleted(name)
    listed.edit_classes(edits)  # tissue is number 1 now, glass number 2
    section.review.log.add(ReviewedRegion(0.0, 0.0, 512.0, 960.0))  # above the glass
    section.review.search()
    qtbot.waitUntil(lambda: section.review.regions is not None, timeout=WAIT)
    tissue = 256 * 240 - 40 * 50
    assert section.review.share == pytest.approx(128 * 240 / tissue, abs=0.003)


def test_comparison_with_a_layer_that_lies_elsewhere(
    section: InspectSection,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    view = open_view()
    section.set_view(view)
    # mask pixels 64 to 128 at half the resolution: 16 um a pixel, whose first centre is at
    # 64 * 8 um + 8 um from the corner, which is 1 um before the origin
    part = open_view.viewer.add_labels(
        view.layer.data[64:128:2, 64:128:2].astype(np.int32),
        scale=(16, 16),
        translate=(519, 519),
        units=("um", "um"),
        name="by hand",
    )
    section.compare.menu.aboutToShow.emit()
    assert "by hand" in [action.text() for action in section.compare.menu.actions()]
    wait_for_comparison(section, qtbot, lambda: section.compare.compare_with_layer(part))
    result = section.compare.shown.result
    assert result.counted == 64 * 64
    assert result.agreement.pixel_accuracy == 1
    assert (result.map[64:128, 64:128] == 1).all()


def test_comparison_with_the_mask_of_another_model(
    section: InspectSection,
    open_view: Callable,
    store: MaskStore,
    tmp_path: Path,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    classes = store.info.classes.without("stroma")
    info = dataclasses.replace(store.info, classes=classes)
    ids = store.read_classes()
    other_ids = np.where(ids > 3, ids - 1, np.where(ids == 3, 4, ids)).astype(np.uint8)
    with written_store(tmp_path / "b.plimseg", info, other_ids, other_ids, 128) as other:
        second = open_view(other)
        section.set_view(open_view())
        wait_for_comparison(
            section, qtbot, lambda: section.compare.compare_with_layer(second.layer)
        )
    rows = {row.name: row for row in section.compare.shown.result.rows()}
    assert rows["normal mucosa"].iou == 1
    assert rows["muscle"].iou == rows["stroma"].iou == 0
    assert rows["background"].iou == 1


def test_a_layer_that_is_no_mask_is_refused(
    section: InspectSection,
    open_view: Callable,
    told: list,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    section.set_view(open_view())
    for labels, text in (
        (np.full((9, 9), 300, np.int32), "objects, not classes"),
        (np.ones((3, 9, 9), np.int32), "3 dimensions"),
        (np.zeros((9, 9), np.uint8), "no class of"),
    ):
        layer = open_view.viewer.add_labels(labels)
        section.compare.compare_with_layer(layer)
        qtbot.waitUntil(lambda: bool(told), timeout=WAIT)
        assert text in told.pop()[1]
        qtbot.waitUntil(section.compare.button.isEnabled, timeout=WAIT)
        assert section.compare.shown is None
        open_view.viewer.layers.remove(layer)


def test_areas_follow_the_brush(
    section: InspectSection,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    view = open_view()
    section.set_view(view)
    qtbot.waitUntil(lambda: len(section.areas.rows) == 2, timeout=WAIT)
    rows, columns = np.mgrid[0:50, 0:50].reshape(2, -1)
    view.layer.data_setitem((rows, columns), np.full(rows.size, 5, np.uint8))
    qtbot.waitUntil(lambda: len(section.areas.rows) == 3, timeout=WAIT)
    muscle = next(row for row in section.areas.rows if row.name == "muscle")
    assert muscle.area == f"{2500 * 64e-6:.3f}"
    assert "muscle" in section.areas.accessibleDescription()
    section.areas.grab()  # painting raises nothing
    section.set_view(None)
    assert section.areas.rows == []


def test_keys_act_on_the_mask_layer_while_it_is_inspected(
    section: InspectSection, listed: MaskView
) -> None:
    section.review.go_to_next()
    for key in "ONR":
        listed.layer.keymap[_key(listed, key)](listed.layer)
    assert section.show_panel.outlines.isChecked()
    assert section.review.position == 2
    assert [r.reviewed for r in section.review.regions] == [False, True, False]
    section.set_view(None)
    assert [_key(listed, key) for key in "ONR"] == [None] * 3


def _key(view: MaskView, key: str) -> object:
    return next((bound for bound in view.layer.keymap if str(bound) == key), None)


def test_a_mask_deleted_meanwhile_does_no_harm(
    section: InspectSection,
    listed: MaskView,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    section.toggle_outlines()
    section.review.go_to_next()
    open_view.viewer.layers.remove(listed.layer)
    section.review.go_to_next()
    section.review.mark_reviewed()
    section.toggle_outlines()
    section.toggle_outlines()
    section.set_view(None)
    assert [layer.name for layer in open_view.viewer.layers] == []


def test_closing_the_dock_leaves_the_viewer_alone(
    section: InspectSection,
    listed: MaskView,
    open_view: Callable,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    viewer = open_view.viewer
    section.toggle_outlines()
    with qtbot.waitSignal(section.destroyed, timeout=WAIT):
        section.stop_and_wait()
        section.setParent(None)
        section.deleteLater()
    get_camera(viewer).zoom = 3
    listed.layer.data_setitem((np.array([1]), np.array([1])), np.array([5], np.uint8))
    assert _key(listed, "O") is None
