"""The part of the story about points and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from story.on_the_slide import check, generate_view

from napari_plimseg._widgets.docks import main_dock
from napari_plimseg.slides import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from story.on_the_slide import Story

_OBJECTS = {
    "CMU-1-Small-Region": Region(1960, 1165, 235, 225),  # a hair in its follicle
    "colon_polyp_crop": Region(5575, 3380, 290, 600),  # a crypt
}
"""In level-0 pixels: what a person sees in the slides that the story is told of."""
_ENCODES_WITHIN, _ANSWERS_WITHIN = 120.0, 60.0  # seconds; two and a moment on a quiet machine


def box_and_points(story: Story) -> str:
    """Draw a box around an object, correct by two points, accept, and undo."""
    if main_dock(story.screen.viewer).view is None:
        generate_view(story)
    screen, view, review = story.screen, story.view, story.review
    prompts, correct, layer = review.prompts, review.correct, view.layer
    box = _object(story)
    _look_at(story, box)
    screen.press(_fold_button(prompts))
    screen.press(correct.controls.chips.chips[_OTHER_CLASS - 1].button)
    before = layer.data.copy()

    screen.press(prompts.controls.tools["box"])
    screen.drag_over(layer, _pixels(view, [(0, 0), (0.5, 0.5), (1, 1)], box))
    screen.wait("the box is answered", lambda: _is_answered(prompts), _ENCODES_WITHIN)
    boxed = _mask(prompts)
    check("the mask lies in the box", 0.2 < boxed.mean() < 1)
    story.picture("box")

    screen.press(prompts.controls.tools["point_in"])
    screen.click_on(layer, *_pixels(view, [(0.5, 0.5)], box)[0])
    screen.wait("the point is answered", lambda: _is_answered(prompts), _ANSWERS_WITHIN)
    check("the middle is inside", _at(prompts, box, 0.5, 0.5))
    screen.press(prompts.controls.tools["point_out"])
    screen.click_on(layer, *_pixels(view, [(0.06, 0.06)], box)[0])
    screen.wait("the other point is answered", lambda: _is_answered(prompts), _ANSWERS_WITHIN)
    check("the corner is outside", not _at(prompts, box, 0.06, 0.06))
    check("nothing is painted yet", np.array_equal(layer.data, before))
    story.picture("hints")

    screen.press(prompts.controls.accept_button)
    changed = layer.data != before
    check("the object has the class", changed.any() and (layer.data[changed] == _OTHER_CLASS).all())
    screen.press(prompts.controls.tools["point_out"])  # deactivates it
    screen.press(correct.controls.undo_button)
    check("undo takes it back", np.array_equal(layer.data, before))
    screen.press(_fold_button(prompts))
    return f"{int(changed.sum()):,} pixels from a box and two points"


_OTHER_CLASS = 4  # no class of what lies there

PROMPT_STEPS: dict[str, Callable[[Story], str]] = {"box and points": box_and_points}
"""In the order in which they are played."""


def _object(story: Story) -> Region:
    known = _OBJECTS.get(story.view.info.slide_name.rpartition(".")[0])
    if known is not None:
        return known
    height, width = story.view.info.slide_shape
    return Region(0.48 * height, 0.48 * width, 0.04 * height, 0.04 * width)


def _look_at(story: Story, box: Region) -> None:
    screen = story.screen
    screen.viewer.reset_view()
    screen.rest(0.5)
    pixel = story.view.info.mpp or 1.0
    screen.camera.center = (0.0, (box.y + box.height / 2) * pixel, (box.x + box.width / 2) * pixel)
    screen.camera.zoom = 0.35 * min(
        screen.canvas.height() / (box.height * pixel), screen.canvas.width() / (box.width * pixel)
    )
    screen.rest(1.0)


def _pixels(view: Any, places: list[tuple[float, float]], box: Region) -> list[tuple[float, float]]:
    """Return pixels of the mask's layer at parts of a box's height and width."""
    scale = view.info.downsample * view.step
    return [
        ((box.y + v * box.height) / scale - 0.5, (box.x + u * box.width) / scale - 0.5)
        for v, u in places
    ]


def _is_answered(prompts: Any) -> bool:
    return (
        bool(prompts.state.answers)
        and not prompts.is_working
        and prompts.state.answers[0].draft == prompts.state.draft
    )


def _mask(prompts: Any) -> NDArray[np.bool_]:
    """Return what is shown in the box that was drawn, at 40 x 40 places."""
    box = prompts.state.draft.box
    steps = (np.arange(40) + 0.5) / 40
    found: NDArray[np.bool_] = prompts.state.answers[0].mask.at(
        box.y + steps * box.height, box.x + steps * box.width
    )
    return found


def _at(prompts: Any, box: Region, v: float, u: float) -> bool:
    place = np.array([box.y + v * box.height]), np.array([box.x + u * box.width])
    return bool(prompts.state.answers[0].mask.at(*place)[0, 0])


def _fold_button(section: Any) -> Any:
    """Return what unfolds a section."""
    fold = section.parentWidget()
    while not hasattr(fold, "toggleButton"):
        fold = fold.parentWidget()
    return fold.toggleButton()
