"""What tools bind to a layer is gone after they released it, in whatever order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Labels

from napari_plimseg._widgets.viewer.layer_bindings import LayerBindings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def layer() -> Labels:
    return Labels(np.zeros((4, 4), np.uint8))


def action(layer: Labels, key: str) -> Callable | None:
    return {str(bound): act for bound, act in layer.keymap.items()}.get(key)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_key_of_three_tools(layer: Labels, order: tuple[int, ...]) -> None:
    def own(_: Labels) -> None:
        pressed.append("own")

    pressed: list[object] = []
    layer.bind_key("Z", own)
    tools = [LayerBindings() for _ in range(3)]
    for number, tool in enumerate(tools):
        tool.bind_key(layer, "zZ"[number % 2], lambda number=number: pressed.append(number))
    left = [0, 1, 2]
    for number in order:
        act = action(layer, "Z")
        assert act is not None
        act(layer)
        assert pressed[-1] == left[-1], "the tool activated last has the key"
        tools[number].release()
        left.remove(number)
    assert action(layer, "Z") is own


def test_everything_is_undone(layer: Labels) -> None:
    calls: list[str] = []
    callbacks = list(layer.mouse_drag_callbacks)
    bindings = LayerBindings()
    bindings.on_release(lambda: calls.append("released"))
    bindings.connect(layer.events.opacity, lambda _: calls.append("opacity"))
    bindings.bind_key(layer, "x", lambda: None)
    bindings.on_drag(layer, lambda *_: None)
    bindings.set_attribute(layer, "cursor", "cross", "standard")
    bindings.set_attribute(layer, "mouse_pan", False, True)
    layer.opacity = 0.3
    layer.mouse_pan = True  # by someone else, while it is bound
    assert str(layer.cursor) == "cross"
    bindings.release()
    assert layer.mouse_pan
    layer.opacity = 0.4
    assert calls == ["opacity", "released"]
    assert action(layer, "X") is None
    assert layer.mouse_drag_callbacks == callbacks
    assert str(layer.cursor) == "standard"
    bindings.release()  # nothing is left
    assert calls == ["opacity", "released"]
