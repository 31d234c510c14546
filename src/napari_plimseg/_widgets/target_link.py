"""What hangs on a layer while it is corrected, and how it comes off again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.mask_painter import MaskPainter


class TargetLink:
    """Everything that hangs on one layer while it is corrected, taken off by `disconnect`.

    Parameters
    ----------
    painter : MaskPainter
        On that layer already.
    """

    def __init__(self, painter: MaskPainter) -> None:
        self.painter = painter
        self._undone: list[Callable[[], Any]] = [painter.detach]
        self._signals: list[tuple[Any, Callable[..., Any]]] = []

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot` on an event of napari until `disconnect`."""
        emitter.connect(slot)
        self._undone.append(lambda: emitter.disconnect(slot))

    def connect_signal(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Call the slot of a widget on a Qt signal until `disconnect`."""
        signal.connect(slot)
        self._signals.append((signal, slot))

    def bind_key(self, key: str, act: Callable[[], None]) -> None:
        """Let a key act on this layer only; napari's own key of that name rests."""
        layer = self.painter.target.layer
        before = layer.bind_key(key, lambda _: act(), overwrite=True)
        self._undone.append(lambda: layer.bind_key(key, before, overwrite=True))

    def on_click(self, callback: Callable[[Any, Any], Any]) -> None:
        """Call a mouse callback of the layer."""
        callbacks = self.painter.target.layer.mouse_drag_callbacks
        callbacks.append(callback)
        self._undone.append(lambda: callbacks.remove(callback))

    def disconnect(self, *, widget_is_gone: bool = False) -> None:
        """Leave the layer as it was; Qt itself takes the slots of a widget that is gone off."""
        while self._undone:
            self._undone.pop()()
        while self._signals and not widget_is_gone:
            signal, slot = self._signals.pop()
            signal.disconnect(slot)


class HeldLink:
    """The link of a section, which outlives it, so that it is taken off in any case."""

    def __init__(self) -> None:
        self.link: TargetLink | None = None

    def let_go(self, *, widget_is_gone: bool = False) -> None:
        """Leave the layer as it was, if there is one."""
        if self.link is not None:
            self.link.disconnect(widget_is_gone=widget_is_gone)
            self.link = None
