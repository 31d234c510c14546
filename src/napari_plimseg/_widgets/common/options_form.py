"""A form made by magicgui from a frozen dataclass of settings: a new setting is one field there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from magicgui.widgets import Container, LineEdit, PushButton, create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QRadioButton, QVBoxLayout, QWidget

from napari_plimseg._widgets.common.tooltips import TOOLTIPS, plain
from napari_plimseg.settings import Option, options_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from magicgui.widgets import Widget
    from qtpy.QtGui import QShowEvent


_Settings = TypeVar("_Settings")
_SPACING = 4


class FolderEdit(Container):  # type: ignore[type-arg]
    """The path of a folder, with buttons to choose another one and to return to the default.

    magicgui's `FileEdit` has no button for the default, and takes every key typed as a new path.

    Parameters
    ----------
    name : str
        Of the setting.
    option : Option
        Its label, its tooltip and the text while no folder is chosen.

    Attributes
    ----------
    default : str
        The folder that is used while none is chosen, for the dialog and the tooltip.
    **how
        As for any widget of magicgui: name, label, tooltip.
    """

    def __init__(self, name: str, option: Option) -> None:
        self._tooltip = option.tooltip
        self.default = ""
        self.line = LineEdit()
        self.line.native.setReadOnly(True)
        self.line.native.setPlaceholderText(option.low_text)
        self.choose_button = PushButton(text="Change…")
        self.default_button = PushButton(text="Default")
        buttons = Container(
            widgets=[self.choose_button, self.default_button], layout="horizontal", labels=False
        )
        super().__init__(widgets=[self.line, buttons], labels=False, name=name, label=option.label)
        for container in (self, buttons):
            container.margins = (0, 0, 0, 0)
            container.native.layout().setSpacing(_SPACING)
        self.choose_button.native.clicked.connect(self.ask)
        self.default_button.native.clicked.connect(lambda: setattr(self, "value", ""))
        self.explain("")

    @property
    def value(self) -> str:
        """The path; empty for the default."""
        return str(self.line.value)

    @value.setter
    def value(self, folder: str) -> None:
        self.line.value = folder

    def explain(self, why_not: str) -> None:
        """Show what the parts are for, or why they can't be used."""
        self.line.tooltip = f"{why_not or self._tooltip}\n{self.value or self.default}".strip()
        self.choose_button.tooltip = why_not or self._tooltip
        self.default_button.tooltip = why_not or TOOLTIPS["folder_default"]

    def ask(self) -> None:
        """Let the user choose a folder."""
        folder = QFileDialog.getExistingDirectory(
            self.native, self.label, self.value or self.default
        )
        if folder:
            self.value = folder


class OptionsForm(QWidget, Generic[_Settings]):
    """Edits the settings of a frozen dataclass whose fields have an `Option`.

    Parameters
    ----------
    settings : dataclass
        Values to begin with. Fields without an `Option` are kept as they are.
    apart : collection of str
        Settings that the owner places elsewhere: their controls are made but not laid out.
    label_width : int
        Least width of the labels, to align them with others of the dock.

    Attributes
    ----------
    changed : Signal(str)
        The name of the setting that was changed.
    controls : dict of str to QWidget
        The control of each setting, by the name of its field.
    """

    changed = Signal(str)

    def __init__(
        self,
        settings: _Settings,
        *,
        apart: Collection[str] = (),
        label_width: int = 0,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._label_width = label_width
        self._settings = settings
        self._why_not = ""
        self._always: Collection[str] = ()
        self._options = options_of(settings)
        self._widgets = {
            name: _widget_of(name, option, getattr(settings, name))
            for name, option in self._options.items()
        }
        self.controls: dict[str, QWidget] = {n: w.native for n, w in self._widgets.items()}
        self.container: Container[Any] = Container(
            widgets=[widget for name, widget in self._widgets.items() if name not in apart]
        )
        self.container.margins = (0, 2, 0, 2)
        self.container.native.layout().setSpacing(_SPACING)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.container.native)
        for name, widget in self._widgets.items():
            widget.changed.connect(lambda _, name=name: self._on_changed(name))
        self.set_enabled("")

    @property
    def settings(self) -> _Settings:
        """The settings as they are now."""
        values = {}
        for name, widget in self._widgets.items():
            kind = type(getattr(self._settings, name))
            values[name] = kind(widget.value)  # boxes for numbers return floats
        return dataclasses.replace(self._settings, **values)  # type: ignore[type-var]

    def remember(self, **changes: Any) -> None:
        """Take over settings that have no control in this form."""
        self._settings = dataclasses.replace(self._settings, **changes)  # type: ignore[type-var]

    def choose(self, name: str, value: object) -> None:
        """Set a control from code."""
        self._widgets[name].value = value

    def show_choices(self, name: str, choices: Sequence[tuple[str, object]]) -> None:
        """Offer other choices, as (text, value); the chosen value stays if it is among them."""
        widget = self._widgets[name]
        wanted = widget.value
        with widget.changed.blocked():
            # as a function: magicgui returns to a plain list whenever the control gets a new parent
            widget.choices = lambda _: list(choices)
            if wanted in (value for _, value in choices):
                widget.value = wanted

    def folder(self, name: str) -> FolderEdit:
        """Return the control of a folder."""
        found = self._widgets[name]
        if not isinstance(found, FolderEdit):
            raise TypeError(f"{name} is not a folder")
        return found

    def insert_after(self, name: str, button: Widget) -> None:
        """Add a button of the owner below a setting."""
        place = [widget.name for widget in self.container].index(name)
        self.container.insert(place + 1, button)

    def set_enabled(self, why_not: str, *, always: Collection[str] = ()) -> None:
        """Allow changes, or say why not; what depends on a setting that is off says so.

        Parameters
        ----------
        why_not : str
            Empty when changes are allowed.
        always : collection of str
            Settings that can be changed nevertheless.
        """
        self._why_not, self._always = why_not, always
        for name, option in self._options.items():
            reason = "" if name in always else why_not
            if not reason and option.needs and not self._widgets[option.needs].value:
                reason = f"Needs '{self._options[option.needs].label}', which is off."
            widget = self._widgets[name]
            widget.enabled = not reason
            if isinstance(widget, FolderEdit):
                widget.explain(reason)
            else:
                widget.tooltip = reason or option.tooltip
            for choice, button in self.buttons(name).items():
                tips = {c.value: c.tooltip for c in option.choices}
                button.setToolTip(plain(reason or tips[choice] or option.tooltip))

    def buttons(self, name: str) -> dict[Any, QWidget]:
        """Return the radio buttons of a setting by value; empty for other controls."""
        option = self._options[name]
        if not option.radio:
            return {}
        found = self.controls[name].findChildren(QRadioButton)
        return {choice.value: b for choice, b in zip(option.choices, found, strict=True)}

    def showEvent(self, event: QShowEvent) -> None:
        """Align the controls: magicgui measures labels before they have the font of the theme."""
        labels = self.container.native.findChildren(QLabel)
        width = max([self._label_width, *(label.sizeHint().width() for label in labels)])
        for label in labels:
            label.setMinimumWidth(width)
        super().showEvent(event)

    def _on_changed(self, name: str) -> None:
        self.set_enabled(self._why_not, always=self._always)
        self.changed.emit(name)


def _widget_of(name: str, option: Option, value: Any) -> Any:
    if option.is_folder:
        folder = FolderEdit(name, option)
        folder.value = value
        return folder
    kind, how = None, dict[str, Any](tooltip=option.tooltip)
    if option.choices:
        choices = {choice.value: choice.text for choice in option.choices}
        # a device that was chosen before stays chosen until the computer has listed its own
        choices.setdefault(value, str(value))
        how["choices"] = [(text, one) for one, text in choices.items()]
        kind = "RadioButtons" if option.radio else "ComboBox"
        if option.radio:
            how["orientation"] = "horizontal"
    elif option.low is not None:
        # for whole numbers, too: magicgui's box for int has no text for its lowest value
        kind = "FloatSpinBox"
        how |= {"min": option.low, "max": option.high, "step": option.step}
    widget = create_widget(value, name=name, label=option.label, widget_type=kind, options=how)
    if option.radio:  # without the frame of a group box, like every other control
        widget.native.setStyleSheet("QGroupBox {border: none; margin: 0; padding: 0;}")
        widget.native.layout().setContentsMargins(0, 0, 0, 0)
    if kind == "FloatSpinBox":
        if isinstance(value, int):
            widget.native.setDecimals(0)
        widget.native.setSpecialValueText(option.low_text)
    return widget
