"""Keys, mouse callbacks, events and settings that a tool adds to a layer and removes again."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer


_key_actions: weakref.WeakKeyDictionary[Layer, dict[str, list[Any]]] = weakref.WeakKeyDictionary()
"""What each bound key did and does, oldest first: the last entry is active.

Several tools bind the same key of one layer and release it in any order, so restoring "what was
bound before" would revive an action that was released already.
"""


class LayerBindings:
    """What one tool has bound to layers, all removed by `release`.

    It holds no widget, so that it can be released when its widget is already destroyed.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []
        self._signals: list[tuple[Any, Callable[..., Any]]] = []

    def on_release(self, act: Callable[[], Any]) -> None:
        """Call a function at `release`, before what was bound earlier is removed."""
        self._undo.append(act)

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot` on an event of napari."""
        emitter.connect(slot)
        self._undo.append(lambda: emitter.disconnect(slot))

    def connect_signal(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Call the slot of a widget on a Qt signal."""
        signal.connect(slot)
        self._signals.append((signal, slot))

    def bind_key(self, layer: Layer, key: str, act: Callable[[], Any]) -> None:
        """Bind a key on this layer; its former action is restored at `release`.

        A function that `act` returns is called when the key was held and is let go.
        """
        self.bind_function(layer, key, lambda _: act())

    def bind_function(self, layer: Layer, key: str, pressed: Callable[[Any], Any]) -> None:
        """Bind a function as napari calls it: with the layer; a generator ends when it is let go.

        The former action of the key is restored at `release`.
        """
        before = layer.bind_key(key, pressed, overwrite=True)
        # napari accepts "z" and "Z" for the same key
        actions = _key_actions.setdefault(layer, {}).setdefault(key.casefold(), [before])
        actions.append(pressed)

        def undo() -> None:
            actions.remove(pressed)
            layer.bind_key(key, actions[-1], overwrite=True)
            if len(actions) == 1:
                _key_actions[layer].pop(key.casefold(), None)

        self._undo.append(undo)

    def on_drag(self, layer: Layer, callback: Callable[[Any, Any], Any]) -> None:
        """Add a mouse callback to the layer."""
        callbacks = layer.mouse_drag_callbacks
        callbacks.append(callback)
        self._undo.append(lambda: callbacks.remove(callback))

    def set_attribute(self, layer: Layer, name: str, value: Any, afterwards: Any) -> None:
        """Set an attribute; `release` sets `afterwards` unless it was changed meanwhile."""
        setattr(layer, name, value)

        def undo() -> None:
            if getattr(layer, name) == value:
                setattr(layer, name, afterwards)

        self._undo.append(undo)

    def release(self, *, widget_is_destroyed: bool = False) -> None:
        """Leave the layers as they were.

        Parameters
        ----------
        widget_is_destroyed : bool
            Whether the owner of the Qt slots is destroyed: Qt has disconnected them then.
        """
        while self._undo:
            self._undo.pop()()
        while self._signals:
            signal, slot = self._signals.pop()
            if not widget_is_destroyed:
                signal.disconnect(slot)
