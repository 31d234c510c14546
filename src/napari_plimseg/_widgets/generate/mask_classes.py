"""The list of classes in step with the mask that is seen, until somebody edits the next run's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.common import on_destroyed, same_words
from napari_plimseg._widgets.viewer import LayerBindings

if TYPE_CHECKING:
    from napari_plimseg._widgets.common import ClassList, ModelChoice
    from napari_plimseg._widgets.viewer import MaskView


NEXT_RUN = "For the next run. Edit this mask's classes in PLIMSeg Review, Classes."
AS_EDITED = "The classes of this mask as edited. The next run keeps that."
NOT_ITS_MODEL = "The next run is for another model or other classes. Open the result again first."
OTHER_MODEL = "The classes of this mask. The next run has those of {title}."


class MaskClasses(QObject):
    """Keeps the list of classes in step with a mask.

    The list has two meanings: it names what is seen, and it says what the next run asks for. A mask
    whose classes were renamed, merged, added or reordered shows its own; the next run of the same
    model asks the model for its classes and shows them as they were edited, so that it ends in
    what the list shows. As soon as somebody edits the list or chooses another model, the list is
    about the next run only, until another mask is seen.

    Parameters
    ----------
    class_list : ClassList
    model_choice : ModelChoice
        Follows the mask, too.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    wordsChanged : Signal()
        The next run asks for other classes.
    maskEdited : Signal()
        The classes of the mask that is seen were edited.
    """

    messageEmitted = Signal(str, str)
    wordsChanged = Signal()
    maskEdited = Signal()

    def __init__(self, class_list: ClassList, model_choice: ModelChoice) -> None:
        super().__init__(class_list)
        self._list = class_list
        self._models = model_choice
        self._view: MaskView | None = None
        self._follows = False
        self._bindings = LayerBindings()
        on_destroyed(self, self._bindings.release)
        class_list.classesChanged.connect(self._on_changed)
        class_list.changeRequested.connect(self._on_change)
        class_list.visibilityChanged.connect(self._hide)
        class_list.colorChanged.connect(self._on_color)
        class_list.classPicked.connect(self._on_picked)

    @property
    def hidden(self) -> frozenset[str]:
        """The hidden classes of the next run."""
        classes, view = self._list.classes, self._view
        if self._list.legend is None or classes is None or view is None:
            return frozenset(self._list.hidden)
        edits = view.edits
        return frozenset(n for n in edits.own.names if edits.shown_name(n) in self._list.hidden)

    @property
    def followed(self) -> MaskView | None:
        """The mask with whose edits a new one of the next run begins; None when it has others."""
        return self._view if self._follows else None

    @property
    def why_not_again(self) -> str:
        """Why the next run would not compute the mask shown again; empty when it would."""
        return "" if self.followed is not None else NOT_ITS_MODEL

    def show_view(self, view: MaskView | None, *, again: bool = False) -> None:
        """Show the classes of another mask, or of the same one `again`; None: of the next run."""
        if view is self._view and not again:
            return
        self._bindings.release()
        self._view = view
        if view is None:
            self._leave()
        else:
            self._bindings.connect(view.reclassed, self._on_edited)
            self._follow()

    def show_model(self) -> None:
        """Show the classes of the chosen model, or of the mask seen if it was made by that one."""
        info, view = self._models.info, self._view
        if info is None:
            return
        if view is not None and view.info.model_name in (info.name, info.title):
            self._follow()
        else:
            self._leave()
            self._list.show_classes(info.default_classes)

    def _follow(self) -> None:
        view = self._view
        assert view is not None  # noqa: S101 - callers have one
        self._follows = True
        edits, shown = view.edits, view.edits.classes
        own = self._models.choose_model_of(view.info)
        asked, chosen = edits.own_as_shown, self._models.info
        if own is None and chosen is not None:
            asked = own = chosen.default_classes  # its model is not installed
            self._follows = same_words(own, edits.own)
        hidden = {n for n in asked.names if view.shown_names([n]) & view.hidden}
        self._list.show_classes(asked, own, hidden)
        if asked.names != shown.names:
            title = "" if chosen is None else chosen.title
            note = AS_EDITED if self._follows else OTHER_MODEL.format(title=title)
            self._list.show_legend(shown, note, view.hidden)

    def _leave(self) -> None:
        self._follows = False
        self._list.leave_legend(self.hidden)

    def _on_edited(self, event: Any = None) -> None:
        if self._follows or self._list.legend is not None:
            self._follow()
        self.maskEdited.emit()

    def _on_change(self) -> None:
        self._leave()
        self.messageEmitted.emit("info", NEXT_RUN)

    def _on_changed(self) -> None:
        view, classes = self._view, self._list.classes
        if view is not None and classes is not None and not same_words(classes, view.edits.own):
            self._follows = False
            self.messageEmitted.emit("info", NEXT_RUN)
        self._hide()
        self.wordsChanged.emit()

    def _shown(self, names: set[str]) -> frozenset[str]:
        """Return the classes of the mask for names in the list."""
        if self._view is None:
            return frozenset()
        return frozenset(names) if self._list.legend else self._view.shown_names(names)

    def _hide(self) -> None:
        if self._view is not None:
            self._view.hide_classes(self._shown(self._list.hidden))

    def _on_color(self, name: str, color: tuple[int, int, int]) -> None:
        for shown in self._shown({name}):
            assert self._view is not None  # noqa: S101 - only with a mask there are names
            problem = self._view.recolor(shown, color)
            if problem:
                self.messageEmitted.emit("warning", problem)

    def _on_picked(self, name: str) -> None:
        for shown in self._shown({name}):
            assert self._view is not None  # noqa: S101 - only with a mask there are names
            self._view.layer.selected_label = self._view.info.classes.mask_id(shown)
