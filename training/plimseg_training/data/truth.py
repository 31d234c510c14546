"""Truth masks: what their numbers, colors and class names mean, and what no class accounts for.

Mask ids are the one convention for masks of users: 1 is the first class, 2 the second, and so on,
background last; 0 and 255 mean not annotated. Published data sets have conventions of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import ConfigError, ExportError
from napari_plimseg.results import MaskInfo, read_label_tiff
from plimseg_training.data.entries import NOT_ANNOTATED, ClassNames, class_key, is_background_name
from plimseg_training.data.images import read_mask, read_palette_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.tissue import TissueClasses


_OF_MAP = "--map or the key 'data.map'"
OTHERS = "*"
IGNORED = "-"
_BLANK_COLORS = {0x000000: "black", 0xFFFFFF: "white"}
_BAND = 16 << 20
_SHOWN = 5
_SMOOTHED = 8
_COLOR = re.compile(r"#[0-9a-f]{6}")


class Choices(dict[str, int]):
    """What a user decided about names, numbers and colors that no class has.

    From a class name (as `class_key` spells it), a number, "#rrggbb" or "*" for all others to a
    mask id; 0 means not annotated.
    """

    @classmethod
    def of(cls, maps: Sequence[str], ignored: Sequence[str], classes: TissueClasses) -> Choices:
        """Read `--map "Tumor=tumour"` and `--ignore Necrosis`.

        Parameters
        ----------
        maps : sequence of str
            Each "NAME=CLASS"; "NAME=-" ignores the name.
        ignored : sequence of str
            Names that count as not annotated.
        classes : TissueClasses

        Raises
        ------
        ConfigError
            When an entry has no equals sign, names no class, or contradicts another one.
        """
        chosen = cls()
        entries = [entry.rpartition("=") for entry in maps]
        entries += [(name, "=", IGNORED) for name in ignored]
        finder = ClassNames(classes)
        for old, sign, new in entries:
            if not (old.strip() and sign and new.strip()):
                raise ConfigError(
                    f"{_OF_MAP} has '{old}{sign}{new}', which does not name two classes",
                    remedy="Write NAME=CLASS, where CLASS is one of yours.",
                )
            mask_id = 0 if new.strip() == IGNORED else _mask_id(new, finder, classes)
            if mask_id is None:
                raise ConfigError(
                    f"{_OF_MAP} names '{new.strip()}', which is not a class",
                    remedy=finder.remedy(new),
                )
            if chosen.setdefault(choice_key(old), mask_id) != mask_id:
                raise ConfigError(
                    f"{_OF_MAP} gives '{old.strip()}' two classes", remedy="Keep one of them."
                )
        return chosen

    def find(self, name: str) -> int | None:
        """Return the mask id chosen for a name, a number or a color; None when it is open."""
        return self.get(choice_key(name), self.get(OTHERS))


def decision_about(name: str) -> str:
    """Return how a user decides about a name, a number or a color, as the end of a sentence."""
    return (
        f"decide with --map '{name}=CLASS' or --ignore '{name}' (in a recipe: data.map and "
        "data.ignore)"
    )


def choice_key(name: str) -> str:
    """Return how `Choices` spells a name, a number or a color."""
    text = name.strip()
    if text.isdecimal():
        return str(int(text))
    return text.casefold() if _COLOR.fullmatch(text.casefold()) else class_key(text) or text


def _mask_id(name: str, finder: ClassNames, classes: TissueClasses) -> int | None:
    index = finder.index(name)
    if index is not None:
        return index + 1
    return classes.background_id if is_background_name(name) else None


@dataclass(frozen=True, eq=False)
class Truth:
    """A decoded truth mask.

    Parameters
    ----------
    ids : ndarray of uint8, shape (h, w)
        Mask ids; 0 where nothing is annotated, and where no class is known.
    unknown : Counter of str
        Pixels of every number, color or class name that is no class.
    blank : Counter of str
        Pixels of every number or color that means not annotated, unless the user decided so.
    info : MaskInfo or None
        Of a label TIFF of this program: where it is on the slide.
    """

    ids: NDArray[np.uint8]
    unknown: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)
    info: MaskInfo | None = None

    def problem(self) -> str:
        """Return what no class accounts for, with its share of the mask; "" if nothing is."""
        if not self.unknown:
            return ""
        parts = shares(self.unknown, self.ids.size)
        one = len(self.unknown) == 1
        return f"the mask has {parts}, which {'is not a class' if one else 'are not classes'}"


def shares(counts: Counter[str], pixels: int) -> str:
    """Return names with their shares of the pixels: "the value 3 (25 %) and 4 more (1 %)"."""
    named = counts.most_common(_SHOWN)
    parts = [f"{name} ({_percent(count / pixels)})" for name, count in named]
    rest = counts.total() - sum(count for _, count in named)
    if rest:
        parts.append(f"{len(counts) - len(named):,} more ({_percent(rest / pixels)})")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1g} %"


@dataclass(frozen=True)
class TruthKey:
    """What the numbers, colors and class names in truth masks mean.

    Parameters
    ----------
    classes : TissueClasses
        Their colors are those of color masks.
    ids : mapping of int to int
        From numbers to mask ids; 0 for those that mean not annotated.
    choices : Choices
        What the user decided about others.
    of_user : bool
        Whether the masks are a user's: then colors of a palette decide where they are those of
        classes, and what is not annotated is reported.
    """

    classes: TissueClasses
    ids: Mapping[int, int]
    choices: Choices = field(default_factory=Choices)
    of_user: bool = True

    @property
    def known(self) -> str:
        """The numbers and their meaning, for people."""
        names = {i: f"{n} = {self.classes.names[i - 1]}" for n, i in self.ids.items() if i}
        blank = [str(n) for n, i in sorted(self.ids.items()) if not i]
        parts = [names[i] for i in sorted(names)]
        return ", ".join(parts + ([f"{' and '.join(blank)} = not annotated"] if blank else []))

    def remedy(self, truth: Truth) -> str:
        """Return what to do about `truth.unknown`."""
        most = truth.unknown.most_common(1)[0][0]  # "the value 3", "the class 'fat'"
        name = most.removeprefix("the ").partition(" ")[2].strip("'")
        way = decision_about(name)
        if most.startswith("the color"):
            if len(truth.unknown) > _SMOOTHED:
                return (
                    "The colors were smoothed or lossily compressed: save the mask as PNG with "
                    f"nearest-neighbor sampling, or leave such pixels out with --ignore '{OTHERS}' "
                    "(in a recipe: data.ignore)."
                )
            return f"Set the colors of the classes, or {way}."
        if truth.info is not None:
            return f"Add it to the classes, or {way}."
        return f"Known: {self.known}. Correct the mask or the classes, or {way}."

    def read(self, path: Path) -> Truth:
        """Decode a truth mask.

        Parameters
        ----------
        path : Path
            A palette or gray picture of numbers, a picture of class colors, or a label TIFF of
            this program, whose class names decide.

        Raises
        ------
        TagError
            When it can't be read, or lossy compression changed its values.
        """
        if self.of_user and path.suffix.lower() in (".tif", ".tiff"):
            try:
                mask, info = read_label_tiff(path)
            except ExportError:
                pass  # a TIFF of another program
            else:
                return self._of_label_tiff(np.asarray(mask[:]), info)
        if not self.of_user:
            values = read_mask(path)
            return self._of_colors(values) if values.ndim == 3 else self._of_numbers(values)
        values, palette = read_palette_mask(path)
        if values.ndim == 3:
            return self._of_colors(values)
        return self._of_palette(values, palette) or self._of_numbers(values)

    def _of_numbers(self, values: NDArray[np.uint8]) -> Truth:
        counts = _counts(values)
        table, unknown, blank = np.zeros(256, np.uint8), Counter[str](), Counter[str]()
        for number in np.flatnonzero(counts).tolist():
            # a number that is known keeps its meaning unless it is named itself
            chosen = self.choices.get(str(number))
            if chosen is None and number not in self.ids:
                chosen = self.choices.get(OTHERS)
            if chosen is not None:
                table[number] = chosen
            elif number in self.ids:
                table[number] = self.ids[number]
                if not self.ids[number]:
                    blank[f"the value {number}"] = int(counts[number])
            else:
                unknown[f"the value {number}"] = int(counts[number])
        return Truth(_looked_up(values, table), unknown, blank)

    def _of_palette(self, values: NDArray[np.uint8], palette: Sequence[int]) -> Truth | None:
        """Return the truth of a palette of class colors; None where numbers decide."""
        used = np.flatnonzero(_counts(values)).tolist()
        if not palette or 3 * (max(used, default=0) + 1) > len(palette):
            return None
        codes = {i: _code(tuple(palette[3 * i : 3 * i + 3])) for i in used}
        colors = {_code(color): i for i, color in enumerate(self.classes.colors, 1)}
        of_classes = {code for code in codes.values() if code in colors}
        others = set(codes.values()) - of_classes - set(_BLANK_COLORS)
        numbered = any(str(number) in self.choices for number in used)
        if not of_classes or others or numbered:
            return None
        table = np.zeros(256, np.uint8)
        counts, blank = _counts(values), Counter[str]()
        for number, code in codes.items():
            chosen = self.choices.get(_shown(code))
            table[number] = colors.get(code, 0) if chosen is None else chosen
            if code not in colors and chosen is None:
                blank[_BLANK_COLORS[code]] += int(counts[number])
        return Truth(_looked_up(values, table), Counter(), blank)

    def _of_colors(self, values: NDArray[np.uint8]) -> Truth:
        known = {_code(color): i for i, color in enumerate(self.classes.colors, 1)}
        chosen = {int(key[1:], 16): i for key, i in self.choices.items() if key.startswith("#")}
        unknown, blank = Counter[str](), Counter[str]()
        ids = np.zeros(values.shape[:2], np.uint8)
        for band, out in zip(_bands(values), _bands(ids, values.shape[2]), strict=True):
            codes = band.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
            found = np.zeros(codes.shape, bool)
            for code, mask_id in (known | chosen).items():
                here = codes == code
                out[here] = mask_id
                found |= here
            for code, name in _BLANK_COLORS.items():
                here = (codes == code) & ~found
                blank[name] += int(here.sum())
                found |= here
            if OTHERS in self.choices:
                out[~found] = self.choices[OTHERS]
            elif not found.all():
                for code, count in zip(*np.unique(codes[~found], return_counts=True), strict=True):
                    unknown[f"the color {_shown(int(code))}"] += int(count)
        return Truth(ids, unknown, +blank)

    def _of_label_tiff(self, values: NDArray[np.uint8], info: MaskInfo) -> Truth:
        finder, counts = ClassNames(self.classes), _counts(values)
        table, unknown, blank = np.zeros(256, np.uint8), Counter[str](), Counter[str]()
        for number in np.flatnonzero(counts).tolist():
            if number in NOT_ANNOTATED:
                blank[f"the value {number}"] = int(counts[number])
            elif number > len(info.classes):
                unknown[f"the value {number}"] = int(counts[number])
            else:
                name = info.classes.names[number - 1]
                mask_id = self.choices.get(choice_key(name), _mask_id(name, finder, self.classes))
                if mask_id is None:
                    mask_id = self.choices.get(OTHERS)
                if mask_id is not None:
                    table[number] = mask_id
                elif number == info.classes.background_id:
                    blank[f"'{name}'"] = int(counts[number])  # these classes have no background
                else:
                    unknown[f"the class '{name}'"] = int(counts[number])
        return Truth(_looked_up(values, table), unknown, blank, info)


def _counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count every value; np.unique sorts a copy, and a mask may have two billion pixels."""
    counts = np.zeros(256, np.int64)
    for band in _bands(values):
        counts += np.bincount(band.ravel(), minlength=256)
    return counts


def _looked_up(values: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    ids = np.empty(values.shape, np.uint8)
    # an index takes eight bytes per pixel
    for band, out in zip(_bands(values), _bands(ids), strict=True):
        out[...] = table[band]
    return ids


def _bands(values: NDArray[np.uint8], channels: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield rows of an image together, about 16 million values at once, as views."""
    rows = max(1, _BAND // max(1, values[:1].size * channels))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def _code(color: tuple[int, ...]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _shown(code: int) -> str:
    return f"#{code:06x}"
