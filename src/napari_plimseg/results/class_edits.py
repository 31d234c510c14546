"""`ClassEdits`: what a person changed about the classes of an existing mask.

The store keeps the model's output in the model's ids. Edits are a table from those ids to the ids
that are shown, and the classes shown, in `classes.json` beside the manifest. So they cost no pixel,
can be undone later, and a run that continues writes what it always wrote.

Every class has an origin that never changes: the model's id, or a number above them for a class
that a person added. The table gives the shown id of each origin. Corrections are stored by class
name, for all masks of the slide; `names` remembers which origin each name belongs to.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_plimseg.errors import ConfigError, StoreError
from napari_plimseg.results.store_manifest import disk_error, read_checked, write_checked
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE, TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.tissue import Color


FILE_NAME = "classes.json"
_FORMAT = 1
_MOST_STEPS = 100
_MOST_ORIGINS = 254


@dataclass(frozen=True)
class ClassState:
    """The classes of a mask at one moment.

    Parameters
    ----------
    classes : TissueClasses
        As shown.
    origins : tuple of int
        The origin of each shown class.
    merged : tuple of (int, int)
        Origins whose pixels belong to another origin now; 0 for none.
    """

    classes: TissueClasses
    origins: tuple[int, ...]
    merged: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        known = [*self.origins, *(a for a, _ in self.merged)]
        if len(self.origins) != len(self.classes) or len(set(known)) != len(known):
            raise ConfigError("the edited classes contradict each other")
        allowed = {0, *self.origins}
        if not all(1 <= o <= _MOST_ORIGINS for o in known) or any(
            into not in allowed for _, into in self.merged
        ):
            raise ConfigError("the edited classes contradict each other")

    @property
    def table(self) -> NDArray[np.uint8]:
        """The shown id (256,) of each origin; 0 and 255 stay."""
        table = np.zeros(256, np.uint8)
        table[UNREADABLE] = UNREADABLE
        for shown, origin in enumerate(self.origins, start=1):
            table[origin] = shown
        for origin, into in self.merged:
            table[origin] = table[into]
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "tissue": self.classes.to_dict(),
            "origins": list(self.origins),
            "merged": [list(pair) for pair in self.merged],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from plain data; raises ConfigError, KeyError, TypeError or ValueError."""
        return cls(
            TissueClasses.from_dict(data["tissue"]),
            tuple(int(o) for o in data["origins"]),
            tuple((int(a), int(b)) for a, b in data["merged"]),
        )


@dataclass(frozen=True)
class ClassEdits:
    """The edited classes of a mask, and the way back to the model's own.

    Every method that edits returns new edits; `write` keeps them.

    Parameters
    ----------
    own : TissueClasses
        The model's.
    state : ClassState
        As shown.
    undoable, redoable : tuple of (str, ClassState)
        What each step did, as text, and the state that undoing or redoing it restores; the latest
        step is last.
    names : mapping of str to int
        Origin by each name, in lower case, that corrections may be stored under.
    added : int
        Number of the class that was added last; the count of own classes before.
    """

    own: TissueClasses
    state: ClassState
    undoable: tuple[tuple[str, ClassState], ...] = ()
    redoable: tuple[tuple[str, ClassState], ...] = ()
    names: Mapping[str, int] = field(default_factory=dict)
    added: int = 0

    @classmethod
    def of(cls, own: TissueClasses) -> Self:
        """Return no edits of a model's classes."""
        origins = tuple(range(1, len(own) + 1))
        names = {name.casefold(): i for i, name in enumerate(own.names, start=1)}
        return cls(own, ClassState(own, origins), names=names, added=len(own))

    @property
    def classes(self) -> TissueClasses:
        """The classes as shown."""
        return self.state.classes

    @property
    def table(self) -> NDArray[np.uint8]:
        """The shown id (256,) of each id of the store."""
        return self.state.table

    @property
    def changes_ids(self) -> bool:
        """Whether any id of the store is shown as another one."""
        own = len(self.own)
        return not np.array_equal(self.table[: own + 1], np.arange(own + 1))

    def applied(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return shown ids for ids of the store, of the same shape."""
        return np.take(self.table, mask) if self.changes_ids else mask

    def described(self, info: MaskInfo) -> MaskInfo:
        """Return the description of a mask with the classes as shown."""
        return dataclasses.replace(info, classes=self.classes, stored_names=self._stored_names())

    def model_ids(self, name: str) -> tuple[int, ...]:
        """Return the ids of the store that a shown class consists of."""
        shown = self.classes.mask_id(name)
        table = self.table
        return tuple(i for i in range(1, len(self.own) + 1) if table[i] == shown)

    def shown_name(self, own_name: str) -> str:
        """Return the shown class that a class of the model belongs to now; "" for none."""
        shown = self.classes.by_id(int(self.table[self.own.mask_id(own_name)]))
        return "" if shown is None else shown.name

    @property
    def own_as_shown(self) -> TissueClasses:
        """The model's classes in the colors of the classes that they belong to now."""
        table = self.table
        shown = [self.classes.by_id(int(table[i])) for i in range(1, len(self.own) + 1)]
        classes = tuple(
            each if now is None else dataclasses.replace(each, color=now.color)
            for each, now in zip(self.own, shown, strict=True)
        )
        return dataclasses.replace(self.own, classes=classes)

    def _stored_names(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of each class in files of corrections; the first is written."""
        table = self.table
        found = []
        for shown, (origin, each) in enumerate(
            zip(self.state.origins, self.classes, strict=True), start=1
        ):
            of_class = [n for n, o in self.names.items() if table[o] == shown]
            own = [n for n in of_class if self.names[n] == origin]
            registered = self.names.get(each.name.casefold()) == origin or not own
            first = each.name if registered else own[0]
            others = (n for n in of_class if n != first.casefold())
            found.append((first, *others))
        return tuple(found)

    def renamed(self, old: str, new: str) -> Self:
        """Give a class another name.

        Raises
        ------
        ConfigError
            When there is no such class, or another one has the new name.
        """
        at = self.classes.mask_id(old) - 1
        changed = dataclasses.replace(self.classes[at], name=new.strip())
        state = self._with_classes(self.classes.replaced(old, changed))
        return self._step(f"Rename {old}", state)._with_name(changed.name, self.state.origins[at])

    def recolored(self, colors: Mapping[str, Color]) -> Self:
        """Give classes other colors, by name."""
        classes = self.classes
        for name, color in colors.items():
            old = classes[classes.mask_id(name) - 1]
            classes = classes.replaced(name, dataclasses.replace(old, color=color))
        what = f"Recolor {next(iter(colors))}" if len(colors) == 1 else "Recolor"
        return self._step(what, self._with_classes(classes))

    def for_color_blind(self) -> Self:
        """Give all classes colors that color-blind eyes tell apart."""
        return self._step("Color-blind colors", self._with_classes(self.classes.color_blind_safe()))

    def ignoring(self, name: str, ignored: bool = True) -> Self:
        """Leave a class out of areas and exports, or take it in again."""
        old = self.classes[self.classes.mask_id(name) - 1]
        changed = self.classes.replaced(name, dataclasses.replace(old, ignored=ignored))
        return self._step(
            f"{'Ignore' if ignored else 'Include'} {name}", self._with_classes(changed)
        )

    def merged(self, name: str, into: str) -> Self:
        """Make the pixels of one class those of another one; the class is gone."""
        source, target = (self.classes.mask_id(n) for n in (name, into))
        if source == target:
            raise ConfigError("a class can't be merged with itself", remedy="Choose another one.")
        state = self._without(source, self.state.origins[target - 1])
        return self._step(f"Merge {name} into {self.classes.names[target - 1]}", state)

    def deleted(self, name: str) -> Self:
        """Delete a class; its pixels become background, or empty where there is none."""
        background = self.classes.background_id
        into = 0 if background is None else self.state.origins[background - 1]
        return self._step(f"Delete {name}", self._without(self.classes.mask_id(name), into))

    def moved(self, name: str, position: int) -> Self:
        """Move a class to another place in the list, counted from 0; background stays last."""
        at = self.classes.mask_id(name) - 1
        last = len(self.classes) - (2 if self.classes.has_background else 1)
        if at > last:
            raise ConfigError("background is always the last class")
        order = [*range(len(self.classes))]
        order.insert(max(0, min(position, last)), order.pop(at))
        return self._step(f"Move {name}", self._in_order(order))

    def with_class(self, new: TissueClass) -> Self:
        """Add a class without pixels, to paint with."""
        number = self.added + 1
        if number > _MOST_ORIGINS:
            raise ConfigError("no more classes can be added to this mask")
        classes = self.classes.with_class(new)
        at = classes.mask_id(new.name) - 1
        origins = (*self.state.origins[:at], number, *self.state.origins[at:])
        state = dataclasses.replace(self.state, classes=classes, origins=origins)
        found = dataclasses.replace(self._step(f"Add {new.name}", state), added=number)
        return found._with_name(new.name, number)

    def with_preset(self, preset: TissueClasses) -> Self:
        """Take colors, words, order and what is ignored from a preset, by class name.

        Classes that only the preset has are added without pixels; classes that only the mask has
        stay, after the others.
        """
        found = self
        for wanted in preset:
            if wanted.name.casefold() not in {n.casefold() for n in found.classes.names}:
                found = found.with_class(wanted)
            at = found.classes.mask_id(wanted.name) - 1
            taken = dataclasses.replace(wanted, name=found.classes[at].name)
            classes = found.classes.replaced(taken.name, taken)
            found = dataclasses.replace(found, state=found._with_classes(classes))
        first = [found.classes.mask_id(name) - 1 for name in preset.names]
        rest = [i for i in range(len(found.classes)) if i not in first]
        background = found.classes.background_id
        order = [i for i in (*first, *rest) if i + 1 != background]
        state = found._in_order(order if background is None else [*order, background - 1])
        # one step, however many changes
        found = dataclasses.replace(found, state=self.state, undoable=self.undoable)
        return found._step("Load preset", state)

    def undone(self) -> Self:
        """Undo the last edit; ConfigError when there is none."""
        return self._replayed(undo=True)

    def redone(self) -> Self:
        """Redo the edit that was undone last; ConfigError when there is none."""
        return self._replayed(undo=False)

    def _replayed(self, *, undo: bool) -> Self:
        stack, other = (self.undoable, self.redoable)[:: 1 if undo else -1]
        if not stack:
            raise ConfigError(f"no edit of the classes can be {'un' if undo else 're'}done")
        (what, state), rest = stack[-1], stack[:-1]
        other = (*other, (what, self.state))
        undoable, redoable = (rest, other) if undo else (other, rest)
        return dataclasses.replace(self, state=state, undoable=undoable, redoable=redoable)

    def _step(self, what: str, state: ClassState) -> Self:
        if state == self.state:
            return self
        undoable = (*self.undoable, (what, self.state))[-_MOST_STEPS:]
        return dataclasses.replace(self, state=state, undoable=undoable, redoable=())

    def _with_classes(self, classes: TissueClasses) -> ClassState:
        return dataclasses.replace(self.state, classes=classes)

    def _without(self, mask_id: int, into: int) -> ClassState:
        classes = self.classes.without(self.classes.names[mask_id - 1])
        if len(classes) == (1 if classes.has_background else 0):
            raise ConfigError("this is the last class of the mask", remedy="Rename it instead.")
        origins = self.state.origins
        gone = origins[mask_id - 1]
        merged = [(a, into if b == gone else b) for a, b in self.state.merged]
        left = (*origins[: mask_id - 1], *origins[mask_id:])
        return ClassState(classes, left, (*merged, (gone, into)))

    def _in_order(self, order: Sequence[int]) -> ClassState:
        classes = dataclasses.replace(self.classes, classes=tuple(self.classes[i] for i in order))
        return dataclasses.replace(
            self.state, classes=classes, origins=tuple(self.state.origins[i] for i in order)
        )

    def _with_name(self, name: str, origin: int) -> Self:
        """Note that corrections of a class may be stored under a name, unless it is taken."""
        key = name.casefold()
        shown = {*self.state.origins, *(a for a, _ in self.state.merged)}
        names = dict(self.names)
        if names.get(key, origin) == origin or names[key] not in shown:
            names[key] = origin
        elif origin not in names.values():
            names[f"{key} ({origin})"] = origin
        return dataclasses.replace(self, names=names)

    @classmethod
    def read(cls, store: Path, own: TissueClasses) -> Self:
        """Read the edits of the mask in a store; none where there is no file.

        Raises
        ------
        StoreError
            When the file is damaged, or fits other classes.
        """
        path = store / FILE_NAME
        if not path.exists():
            return cls.of(own)
        remedy = f"Delete the file {FILE_NAME} in it to get the model's classes back."
        try:
            content = read_checked(path, store)
        except StoreError as error:
            raise StoreError(error.problem, path=store, remedy=remedy) from error
        try:
            if int(content["format"]) > _FORMAT:
                raise StoreError(
                    "its classes were edited by a newer version",
                    path=store,
                    remedy="Update napari-plimseg.",
                )
            if [str(n) for n in content["own"]] != [*own.names]:
                raise ValueError("other classes")
            undoable, redoable = (
                tuple((str(what), ClassState.from_dict(state)) for what, state in content[key])
                for key in ("undoable", "redoable")
            )
            return cls(
                own,
                ClassState.from_dict(content["state"]),
                undoable,
                redoable,
                {str(name): int(origin) for name, origin in content["names"].items()},
                int(content["added"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise StoreError(
                "the edits of its classes are damaged", path=store, remedy=remedy
            ) from error

    def write(self, store: Path) -> None:
        """Keep the edits with the mask in a store, atomically.

        Raises
        ------
        StoreError
            When the disk is full or the folder is read-only.
        """
        content = {
            "format": _FORMAT,
            "own": list(self.own.names),
            "state": self.state.to_dict(),
            "undoable": [[what, state.to_dict()] for what, state in self.undoable],
            "redoable": [[what, state.to_dict()] for what, state in self.redoable],
            "names": dict(self.names),
            "added": self.added,
        }
        try:
            write_checked(store / FILE_NAME, content)
        except OSError as error:
            raise disk_error(error, store) from error


@dataclass(frozen=True)
class ClassChange:
    """What an edit changed: only what depends on that has to follow.

    Parameters
    ----------
    before, after : ClassState
    """

    before: ClassState
    after: ClassState

    @property
    def moves_ids(self) -> bool:
        """Whether any pixel has another shown id, or an id another class."""
        return self.before.origins != self.after.origins or self.regroups_pixels

    @property
    def regroups_pixels(self) -> bool:
        """Whether pixels of one class belong to several now, or those of several to one."""
        return self.before.merged != self.after.merged

    @property
    def changes_tissue(self) -> bool:
        """Whether other pixels count as tissue, or as the same tissue."""
        before, after = (
            {o for o, each in zip(state.origins, state.classes, strict=True) if each.ignored}
            for state in (self.before, self.after)
        )
        return self.regroups_pixels or before != after

    @property
    def names(self) -> dict[str, str]:
        """The new name by the old one, of the classes that are still there."""
        old = dict(zip(self.before.origins, self.before.classes.names, strict=True))
        new = zip(self.after.origins, self.after.classes.names, strict=True)
        return {old[origin]: name for origin, name in new if origin in old}

    def new_id(self, mask_id: int) -> int:
        """Return the new id of a class by its old one; 0 when it is gone."""
        known = 0 < mask_id <= len(self.before.origins)
        origin = self.before.origins[mask_id - 1] if known else 0
        return self.after.origins.index(origin) + 1 if origin in self.after.origins else 0

    @property
    def table(self) -> NDArray[np.uint8] | None:
        """The new shown id (256,) of each shown id; None when one becomes several."""
        table = np.full(256, NOT_COMPUTED, np.uint8)
        table[UNREADABLE] = UNREADABLE
        old, new = self.before.table, self.after.table
        seen: dict[int, int] = {}
        for origin in (*self.before.origins, *(a for a, _ in self.before.merged)):
            shown = int(old[origin])
            if shown and seen.setdefault(shown, int(new[origin])) != new[origin]:
                return None
        for shown, now in seen.items():
            table[shown] = now
        return table
