"""A coloured line at the top of the dock that says what happened."""

from __future__ import annotations

from qtpy.QtCore import QPoint, QRect, QSize, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from napari_plimseg._widgets.tooltips import TOOLTIPS

_COLORS = {"error": "#a32020", "warning": "#8a5a00", "info": "#1f5c99", "good": "#22693a"}


class Banner(QFrame):
    """Shows one sentence on a coloured ground; the cross hides it.

    The colours stand on their own, so the text reads in dark and light themes.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = ""
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._close = QToolButton()
        self._close.setText("✕")
        self._close.setToolTip(TOOLTIPS["dismiss"])
        self._close.clicked.connect(self.hide)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 4, 4, 4)
        layout.addWidget(self.label, 1)
        layout.addWidget(self._close, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    @property
    def text(self) -> str:
        """The sentence shown, empty when hidden."""
        return "" if self.isHidden() else self.label.text()

    def tell(self, kind: str, text: str) -> None:
        """Show a sentence.

        Parameters
        ----------
        kind : {"error", "warning", "info", "good"}
            Decides the colour.
        text : str
            One or two sentences.
        """
        self.kind = kind
        self.label.setText(text)
        color = _COLORS[kind]
        self.setStyleSheet(
            f"Banner {{background: {color}; border-radius: 4px;}}"
            "QLabel {background: transparent; color: white;}"
            "QToolButton {background: transparent; color: white; border: none;}"
        )
        self.show()
        self.updateGeometry()

    def clear(self) -> None:
        """Forget the last sentence."""
        self.kind = ""
        self.hide()


class FlowText(QLabel):
    """A label whose long text wraps instead of widening the dock."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def minimumSizeHint(self) -> QSize:
        """Return a size that lets the dock be narrow."""
        box = QRect(QPoint(0, 0), QSize(max(self.width(), 120), 4000))
        flags = int(Qt.TextFlag.TextWordWrap.value)
        return QSize(60, self.fontMetrics().boundingRect(box, flags, self.text()).height())
