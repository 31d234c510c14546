"""Tissue classes: names, colors, prompts and the order of tags."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import atomic_write
from napari_plimseg.palette import COLOR_BLIND, color_blind_colors, distinct_color
from napari_plimseg.palette import Color as Color
from napari_plimseg.reading import kind_of, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

NOT_COMPUTED = 0
"""Mask id of a pixel that was not computed: 0, as a missing chunk must never read as a class."""
UNREADABLE = 255
"""Mask id of a pixel whose part of the slide can't be decoded."""
MAX_CLASSES = 200

_FRESH_COLORS: tuple[Color, ...] = (
    (230, 85, 13), (49, 130, 189), (49, 163, 84), (117, 107, 177), (222, 45, 38),
    (28, 144, 153), (247, 104, 161), (140, 109, 49), (107, 174, 214), (161, 217, 155),
)  # fmt: skip


@dataclass(frozen=True)
class TissueClass:
    """One tissue class.

    Parameters
    ----------
    name : str
        For people: "tumour epithelium".
    color : tuple of int
        Red, green and blue, 0 to 255.
    prompts : tuple of str
        Synonyms that make the text prototype; when empty, the name itself.
    ignored : bool
        Whether areas, exports and reviews leave the class out.
    """

    name: str
    color: Color
    prompts: tuple[str, ...] = ()
    ignored: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("a tissue class has no name", remedy="Type a name for it.")
        if len(self.color) != 3 or not all(0 <= int(c) <= 255 for c in self.color):
            raise ConfigError(
                f"the color {self.color!r} of class '{self.name}' is not three numbers 0 to 255"
            )
        object.__setattr__(self, "color", tuple(int(c) for c in self.color))
        object.__setattr__(self, "prompts", tuple(p.strip() for p in self.prompts if p.strip()))

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts, or the name when there are none."""
        return self.prompts or (self.name,)


@dataclass(frozen=True)
class TissueClasses:
    """An ordered set of tissue classes; the last may be background.

    The class at position `i` has mask id `i + 1`; 0 is "not computed" and 255 "unreadable".

    Parameters
    ----------
    classes : tuple of TissueClass
        In tag order, background last.
    has_background : bool
        Whether the last class is background: it is not tissue and not part of tissue areas.
    """

    classes: tuple[TissueClass, ...]
    has_background: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        # people take names that differ in case or blanks for the same
        names = [" ".join(c.name.casefold().split()) for c in self.classes]
        if not names:
            raise ConfigError("there are no tissue classes", remedy="Add at least one.")
        if len(names) > MAX_CLASSES:
            raise ConfigError(f"{len(names)} tissue classes are more than {MAX_CLASSES}")
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ConfigError(
                f"the class name '{doubled[0]}' occurs twice", remedy="Rename one of them."
            )

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[TissueClass]:
        return iter(self.classes)

    def __getitem__(self, index: int) -> TissueClass:
        return self.classes[index]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in mask-id order."""
        return tuple(c.name for c in self.classes)

    @property
    def colors(self) -> tuple[Color, ...]:
        """Class colors in mask-id order."""
        return tuple(c.color for c in self.classes)

    @property
    def background_id(self) -> int | None:
        """Mask id of background, or None."""
        return len(self.classes) if self.has_background else None

    @property
    def tissue_ids(self) -> tuple[int, ...]:
        """Mask ids of all classes but background and those that are ignored."""
        count = len(self.classes) - (1 if self.has_background else 0)
        return tuple(i + 1 for i in range(count) if not self.classes[i].ignored)

    @property
    def ignored_ids(self) -> tuple[int, ...]:
        """Mask ids of the classes that areas and exports leave out."""
        return tuple(i for i, c in enumerate(self.classes, 1) if c.ignored)

    def mask_id(self, name: str) -> int:
        """Return the mask id of a class name, ignoring case."""
        wanted = name.casefold().strip()
        for i, tissue_class in enumerate(self.classes):
            if tissue_class.name.casefold() == wanted:
                return i + 1
        raise ConfigError(f"there is no class '{name}'", remedy=f"Known: {', '.join(self.names)}.")

    def by_id(self, mask_id: int) -> TissueClass | None:
        """Return the class of a mask id; None for "not computed" and "unreadable"."""
        return self.classes[mask_id - 1] if 1 <= mask_id <= len(self.classes) else None

    def with_class(self, new: TissueClass) -> TissueClasses:
        """Return a copy with `new` added before background."""
        at = len(self.classes) - (1 if self.has_background else 0)
        return replace(self, classes=(*self.classes[:at], new, *self.classes[at:]))

    def without(self, name: str) -> TissueClasses:
        """Return a copy without the named class. Background can't be removed."""
        mask_id = self.mask_id(name)
        if mask_id == self.background_id:
            raise ConfigError("background can't be removed")
        return replace(
            self, classes=tuple(c for i, c in enumerate(self.classes) if i + 1 != mask_id)
        )

    def replaced(self, name: str, new: TissueClass) -> TissueClasses:
        """Return a copy with `new` in place of `name`."""
        at = self.mask_id(name) - 1
        return replace(self, classes=(*self.classes[:at], new, *self.classes[at + 1 :]))

    def fresh_color(self, *, color_blind: bool = False) -> Color:
        """Return a color that differs from those of all classes, over a stained slide as well."""
        preferred = COLOR_BLIND if color_blind else _FRESH_COLORS
        return distinct_color(self.colors, preferred, color_blind=color_blind)

    def color_blind_safe(self) -> TissueClasses:
        """Return a copy in colors that color-blind eyes tell apart; background keeps its own."""
        count = len(self.classes) - (1 if self.has_background else 0)
        colors = (*color_blind_colors(count), *self.colors[count:])
        recolored = (replace(c, color=k) for c, k in zip(self.classes, colors, strict=True))
        return replace(self, classes=tuple(recolored))

    @classmethod
    def of(cls, classes: Iterable[str | TissueClass]) -> TissueClasses:
        """Return classes from names or `TissueClass` objects, with background added at the end.

        A name becomes a class whose prompt is the name itself, in the next free color.

        Raises
        ------
        ConfigError
            When there is no class, or a name occurs twice.
        """
        if isinstance(classes, str):
            raise ConfigError(
                f"'{classes}' is one text, not a list of classes",
                remedy="Write a list: ['gland', 'stroma'].",
            )
        made = cls((BACKGROUND,))
        for each in classes:
            if isinstance(each, str):
                each = TissueClass(each, made.fresh_color())
            if each.name.casefold() == BACKGROUND.name:
                made = made.replaced(BACKGROUND.name, each)
            else:
                made = made.with_class(each)
        if len(made) < 2:
            raise ConfigError("no tissue class is named", remedy="Name at least one.")
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON or YAML."""
        return {
            "classes": [
                {"name": c.name, "color": list(c.color), "prompts": list(c.prompts)}
                | ({"ignored": True} if c.ignored else {})
                for c in self.classes
            ],
            "has_background": self.has_background,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, path: str | Path | None = None) -> TissueClasses:
        """Build from plain data; unknown keys and wrong types are refused.

        Raises
        ------
        ConfigError
            Naming the entry that is wrong.
        """
        if not isinstance(data, dict) or not isinstance(data.get("classes"), list):
            raise ConfigError(
                "there is no list 'classes'",
                path=path,
                remedy="Write 'classes:' and below it entries with name, color and prompts.",
            )
        unknown = set(data) - {"classes", "has_background"}
        if unknown:
            raise ConfigError(f"the key '{min(map(str, unknown))}' is not known", path=path)
        classes = tuple(_class_from(entry, i, path) for i, entry in enumerate(data["classes"]))
        has_background = data.get("has_background", True)
        if not isinstance(has_background, bool):
            raise ConfigError(
                f"'has_background' holds {kind_of(has_background)}, not true or false", path=path
            )
        try:
            return cls(classes, has_background=has_background)
        except ConfigError as error:
            raise ConfigError(error.problem, path=path, remedy=error.remedy) from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> TissueClasses:
        """Read a class list that a user wrote."""
        return cls.from_dict(read_yaml(path, ConfigError), path=path)

    def with_prompts_from(self, path: str | Path) -> TissueClasses:
        """Return a copy with the prompts of a YAML file of class name -> words.

        New names become classes.

        Raises
        ------
        ConfigError
            When it can't be read, or holds anything else.
        """
        table = read_yaml(path, ConfigError)
        if not isinstance(table, dict):
            raise ConfigError(
                "is not a table", path=path, remedy="Write lines like 'gland: [crypt, tubule]'."
            )
        classes = self
        for name, words in table.items():
            try:
                listed = _prompts(words if isinstance(words, list) else [words])
                if str(name).casefold() in {known.casefold() for known in classes.names}:
                    old = classes[classes.mask_id(str(name)) - 1]
                    classes = classes.replaced(old.name, replace(old, prompts=listed))
                else:
                    new = TissueClass(str(name), classes.fresh_color(), listed)
                    classes = classes.with_class(new)
            except ConfigError as error:
                raise ConfigError(
                    f"'{str(name)[:60]}': {error.problem}", path=path, remedy=error.remedy
                ) from error
        return classes

    def to_yaml(self, path: str | Path) -> None:
        """Write the class list for `from_yaml`, atomically."""
        with atomic_write(path) as temporary:
            temporary.write_text(
                yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), "utf-8"
            )


def _class_from(entry: Any, index: int, path: str | Path | None) -> TissueClass:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"class number {index + 1} has no name", path=path)
    unknown = set(entry) - {"name", "color", "prompts", "ignored"}
    if unknown:
        raise ConfigError(
            f"class '{entry['name']}' has the unknown key '{min(map(str, unknown))}'", path=path
        )
    color = entry.get("color") or _FRESH_COLORS[index % len(_FRESH_COLORS)]
    ignored = entry.get("ignored", False)
    try:
        if not isinstance(ignored, bool):
            raise ConfigError(f"'ignored' holds {kind_of(ignored)}, not true or false")
        prompts = _prompts(entry.get("prompts") or [])
        return TissueClass(entry["name"], parse_color(color, path=path), prompts, ignored)
    except ConfigError as error:
        problem = error.problem
        if entry["name"] not in problem:
            problem = f"class '{entry['name']}': {problem}"
        raise ConfigError(problem, path=path, remedy=error.remedy) from error


def _prompts(value: object) -> tuple[str, ...]:
    """Return the words for a class from a list of words, or from one text with commas.

    Raises
    ------
    ConfigError
        When it is anything else.
    """
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
        inner = (
            next((w for w in words if not isinstance(w, str)), None)
            if isinstance(words, list | tuple)
            else words
        )
        raise ConfigError(
            f"its prompts hold {kind_of(inner)}, not words",
            remedy="Write a list of words in quotes: ['crypt', 'tubule'].",
        )
    return tuple(words)


def parse_color(value: str | Sequence[int], *, path: str | Path | None = None) -> Color:
    """Read a color from '#rrggbb' or three numbers."""
    if isinstance(value, str):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ConfigError(f"'{value}' is not a color like #cd3333", path=path)
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    try:
        red, green, blue = (int(v) for v in value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{str(value)[:60]} is not a color of three numbers", path=path
        ) from error
    return red, green, blue


_BACKGROUND_PROMPTS = ("background", "empty glass slide", "white background without tissue")
BACKGROUND = TissueClass("background", (235, 235, 235), _BACKGROUND_PROMPTS)
"""The last class of most models: glass, and what is not tissue."""

COLORECTAL = TissueClasses(
    (
        TissueClass("tumour epithelium", (205, 51, 51), (
            "colorectal adenocarcinoma epithelium", "tumor", "carcinoma", "malignant epithelium")),
        TissueClass("normal mucosa", (0, 160, 110), (
            "normal colon mucosa", "benign glands", "normal colonic crypts", "healthy epithelium")),
        TissueClass("stroma", (255, 165, 0), (
            "cancer-associated stroma", "fibrous stroma", "connective tissue",
            "desmoplastic stroma")),
        TissueClass("lymphocytes", (65, 105, 225), (
            "lymphocytes", "lymphoid aggregate", "inflammatory cells", "immune cells")),
        TissueClass("muscle", (120, 125, 35), (
            "smooth muscle", "muscularis propria", "muscle tissue")),
        TissueClass("mucus", (120, 200, 255), (
            "mucus", "mucin pool", "extracellular mucin")),
        TissueClass("adipose", (245, 225, 120), (
            "adipose tissue", "fat", "adipocytes")),
        TissueClass("debris and necrosis", (90, 70, 110), (
            "necrosis", "necrotic debris", "cell debris")),
        BACKGROUND,
    )
)  # fmt: skip
"""The nine colorectal classes of the bundled model."""

LUAD_HISTOSEG = TissueClasses(
    (
        TissueClass("tumour epithelium", (205, 51, 51), (
            "tumor", "carcinoma", "adenocarcinoma", "malignant epithelium")),
        TissueClass("necrosis", (0, 255, 0), (
            "necrosis", "necrotic debris", "tumor necrosis", "ghost cells")),
        TissueClass("lymphocytes", (65, 105, 225), (
            "lymphocytes", "lymphoid aggregate", "immune cells", "inflammatory cells")),
        TissueClass("tumour-associated stroma", (255, 165, 0), (
            "cancer-associated stroma", "tumor-associated stroma", "stromal tissue",
            "fibrous stroma")),
        TissueClass("background", (255, 255, 255), _BACKGROUND_PROMPTS),
    )
)  # fmt: skip

BCSS_WSSS = TissueClasses(
    (
        TissueClass("tumour", (255, 0, 0), ("tumor", "carcinoma", "malignant epithelium")),
        TissueClass("stroma", (0, 255, 0), ("stroma", "fibrous stroma", "collagen bundles")),
        TissueClass("lymphocytes", (0, 0, 255), ("lymphocytes", "plasma cells", "immune cells")),
        TissueClass("necrosis", (153, 0, 255), ("necrosis", "necrotic debris", "ghost cells")),
        TissueClass("background", (255, 255, 255), _BACKGROUND_PROMPTS),
    )
)

WSSS4LUAD = TissueClasses(
    (
        TissueClass(
            "tumour epithelium", (205, 51, 51), ("tumor epithelium", "lung adenocarcinoma")
        ),
        TissueClass(
            "tumour-associated stroma", (255, 165, 0), ("tumor-associated stroma", "stroma")
        ),
        TissueClass("normal", (0, 160, 110), ("normal lung", "normal tissue", "alveoli")),
        TissueClass("background", (255, 255, 255), _BACKGROUND_PROMPTS),
    )
)

GLAS = TissueClasses(
    (
        TissueClass("gland", (0, 64, 128), ("colonic gland", "epithelium and lumen", "crypts")),
        TissueClass("other tissue", (64, 128, 0), ("stroma", "lamina propria", "muscle")),
    ),
    has_background=False,
)

PRESETS: dict[str, TissueClasses] = {
    "colorectal": COLORECTAL,
    "luad_histoseg": LUAD_HISTOSEG,
    "bcss_wsss": BCSS_WSSS,
    "wsss4luad": WSSS4LUAD,
    "glas": GLAS,
}


_BACKGROUND_KEYS = frozenset({"background", "back", "empty", "glas", "white"})


def class_key(name: str) -> str:
    """Return a key that is the same for different spellings of a class.

    It ignores case, blanks, dashes, leading numbers, a plural s, and the British or American
    spelling of tumor.
    """
    key = re.sub(r"[\s_\-]+", " ", name.casefold()).strip()
    key = re.sub(r"^\d+[\s.)]+(?=\D)", "", key).replace("tumour", "tumor")
    return key.removesuffix("s") or name


def is_background_name(name: str) -> bool:
    """Return whether a class name means background, which is never tagged nor trained on."""
    return class_key(name) in _BACKGROUND_KEYS
