"""Keys, clicks and settings that a tool lays on a layer and takes off again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class LayerHold:
    """What hangs on a layer while a tool is in the hand, taken off by `let_go`."""

    def __init__(self) -> None:
        self._undone: list[Callable[[], Any]] = []

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot` on an event of napari until `let_go`."""
        emitter.connect(slot)
        self._undone.append(lambda: emitter.disconnect(slot))

    def bind_key(self, layer: Any, key: str, act: Callable[[], None]) -> None:
        """Let a key act on this layer only; what it did before rests."""

        def pressed(_: Any) -> None:
            act()

        before = layer.bind_key(key, pressed, overwrite=True)

        def undo() -> None:
            now = layer.bind_key(key, before, overwrite=True)
            if now is not pressed:  # another tool took it meanwhile
                layer.bind_key(key, now, overwrite=True)

        self._undone.append(undo)

    def on_drag(self, layer: Any, callback: Callable[[Any, Any], Any]) -> None:
        """Call a mouse callback of the layer."""
        layer.mouse_drag_callbacks.append(callback)
        self._undone.append(lambda: layer.mouse_drag_callbacks.remove(callback))

    def set(self, layer: Any, name: str, value: Any, afterwards: Any) -> None:
        """Set an attribute until `let_go`, unless someone else sets it meanwhile."""
        setattr(layer, name, value)

        def undo() -> None:
            if getattr(layer, name) == value:
                setattr(layer, name, afterwards)

        self._undone.append(undo)

    def let_go(self) -> None:
        """Leave the layer as it was."""
        while self._undone:
            self._undone.pop()()
