"""Dataclasses built from plain data: unknown keys, wrong types and ranges are refused by name."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


Built = TypeVar("Built")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_NOT_EXPANDED = re.compile(r"^~|\$\{?[A-Za-z_]|%[A-Za-z_]\w*%")


@dataclass(frozen=True)
class Range:
    """The numbers that a key may hold, both ends included unless said otherwise.

    Parameters
    ----------
    low, high : float
        The least and the greatest number.
    above : bool
        Whether `low` itself is refused.
    below : bool
        Whether `high` itself is refused.
    or_zero : bool
        Whether 0 is allowed beside the range.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    or_zero: bool = False

    def __contains__(self, value: float) -> bool:
        if self.or_zero and value == 0:
            return True
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under

    def __str__(self) -> str:
        low = f"more than {self.low:.12g}" if self.above else f"at least {self.low:.12g}"
        low = f"0, or {low}" if self.or_zero else low
        if math.isinf(self.high):
            return low
        return f"{low} and {'less than' if self.below else 'at most'} {self.high:.12g}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is spelt most like `word`, or None when none is close."""
    close = difflib.get_close_matches(word.casefold(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def hints(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields, their ranges included."""
    return typing.get_type_hints(cls, include_extras=True)


def check_fields(instance: Any) -> None:
    """Check every field of a frozen dataclass against its type and range; for `__post_init__`.

    Whole numbers become floats and lists become tuples where the field asks for them.

    Raises
    ------
    ConfigError
        Naming the key.
    """
    for name, kind in hints(type(instance)).items():
        value = _converted(getattr(instance, name), kind, name, None)
        object.__setattr__(instance, name, value)


def build(cls: type[Built], data: Any, *, section: str = "", path: Path | None = None) -> Built:
    """Make a dataclass, and the dataclasses inside it, from plain data.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are annotated with plain types, `Range` and other dataclasses.
    data : mapping
        As YAML gives it.
    section : str
        The key under which `data` stands, for messages: "stage1".
    path : Path, optional
        The file that `data` comes from, for messages; text keys of paths are relative to its
        folder.

    Raises
    ------
    ConfigError
        Naming the key, the file and what to write instead.
    """
    where = f"the key '{section}'" if section else "the recipe"
    if not isinstance(data, dict):
        raise ConfigError(
            f"{where} holds {_named(data)} instead of keys and values",
            path=path,
            remedy="Write 'key: value' lines, indented by spaces.",
        )
    kinds = hints(cls)
    _check_keys(cls, data, kinds, section, path)
    made = {}
    for name, value in data.items():
        key = f"{section}.{name}" if section else name
        inner = kinds[name]
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            made[name] = build(inner, value, section=key, path=path)
        else:
            made[name] = _converted(value, inner, key, path)
    try:
        return cls(**made)
    except ConfigError as error:
        raise ConfigError(error.problem, path=path, remedy=error.remedy) from error


def set_key(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested plain data in place.

    Raises
    ------
    ConfigError
        When a part of the key before its last dot is not there.
    """
    *sections, name = key.split(".")
    for section in sections:
        if not isinstance(data.get(section), dict):
            guess = nearest(section, data)
            raise ConfigError(
                f"the key '{key}' is not known" + (f"; did you mean '{guess}'?" if guess else ""),
                remedy=f"Known here: {', '.join(data)}.",
            )
        data = data[section]
    data[name] = value


def plain(instance: Any) -> dict[str, Any]:
    """Return a dataclass as plain data for YAML or JSON; the inverse of `build`."""
    return {
        field.name: _plain_value(getattr(instance, field.name))
        for field in dataclasses.fields(instance)
    }


def flat(data: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Return nested plain data with dotted keys: {"stage1.epochs": 2}."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        key = f"{section}.{name}" if section else str(name)
        if isinstance(value, dict):
            found |= flat(value, key)
        else:
            found[key] = value
    return found


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain_value(v) for v in value]
    return value


def _check_keys(
    cls: Any, data: dict[Any, Any], known: Mapping[str, Any], section: str, path: Path | None
) -> None:
    prefix = f"{section}." if section else ""
    for name in data:
        if name in known:
            continue
        guess = nearest(str(name), known)
        remedy = f"Known here: {', '.join(known)}."
        if guess:
            raise ConfigError(
                f"the key '{prefix}{name}' is not known; did you mean '{guess}'?",
                path=path,
                remedy=remedy,
            )
        raise ConfigError(f"the key '{prefix}{name}' is not known", path=path, remedy=remedy)
    for field in dataclasses.fields(cls):
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in data:
            raise ConfigError(
                f"the key '{prefix}{field.name}' is missing", path=path, remedy="Add it."
            )


def _converted(value: Any, kind: Any, key: str, path: Path | None) -> Any:
    """Return `value` as `kind`, or raise a ConfigError that names the key."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        value = _converted(value, arguments[0], key, path)
        _check_range(value, arguments[1], key, path)
        return value
    if origin is typing.Literal:
        if value in arguments:
            return value
        choices = ", ".join(f"'{c}'" for c in arguments)
        raise ConfigError(
            f"the key '{key}' is {_named(value)}", path=path, remedy=f"Choose one of {choices}."
        )
    if origin in (types.UnionType, typing.Union):
        return _one_of(value, arguments, key, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong_type(value, "a list in square brackets", key, path)
        return tuple(_converted(v, arguments[0], key, path) for v in value)
    return _plain_type(value, origin or kind, key, path)


def _one_of(value: Any, kinds: tuple[Any, ...], key: str, path: Path | None) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [k for k in kinds if k is not type(None)]
    for kind in others[:-1]:
        if isinstance(value, typing.get_origin(kind) or kind):
            return _converted(value, kind, key, path)
    return _converted(value, others[-1], key, path)


def _plain_type(value: Any, kind: Any, key: str, path: Path | None) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is float:
        # YAML 1.1 reads 1e-3 as text, and nobody who writes it means text
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(value):
                return float(value)
            raise ConfigError(
                f"the key '{key}' is {value}", path=path, remedy="Write a finite number."
            )
    if kind is Path and isinstance(value, Path):
        return value.absolute()
    if kind is Path and isinstance(value, str):
        return resolved(value, key, path)
    if (kind in (str, dict) or dataclasses.is_dataclass(kind)) and isinstance(value, kind):
        return value
    raise _wrong_type(value, _KINDS.get(kind, kind.__name__), key, path)


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text (in quotes when it looks like a number)",
    dict: "keys and values",
    Path: "a path as text",
}


def resolved(text: str, key: str, path: Path | None) -> Path:
    """Return a path that a recipe names, relative to the recipe's folder.

    Raises
    ------
    ConfigError
        When it is empty or holds `~` or a variable: a recipe means the same for everybody.
    """
    if not text.strip():
        raise ConfigError(f"the key '{key}' is empty", path=path, remedy="Write a path.")
    if _NOT_EXPANDED.search(text):
        raise ConfigError(
            f"the key '{key}' is '{text}', and neither ~ nor variables are replaced in a recipe",
            path=path,
            remedy="Write the whole path, or one relative to the recipe's folder.",
        )
    folder = path.parent if path is not None else Path()
    return folder.absolute() / text


def _check_range(value: Any, allowed: Range, key: str, path: Path | None) -> None:
    if value is not None and value not in allowed:
        raise ConfigError(
            f"the key '{key}' is {value:.12g}", path=path, remedy=f"It must be {allowed}."
        )


def _wrong_type(value: Any, wanted: str, key: str, path: Path | None) -> ConfigError:
    return ConfigError(
        f"the key '{key}' holds {_named(value)}", path=path, remedy=f"Write {wanted}."
    )


def _named(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a list" if isinstance(value, list | tuple) else "keys and values"


_LIMIT = 1 << 20


def read_recipe_text(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top is keys and values.

    Raises
    ------
    ConfigError
        When the file is missing or unreadable, is not YAML, holds a key twice, is indented by
        tabs, or is not keys and values; with the line where there is one.
    """
    try:
        if path.is_dir():
            raise ConfigError("it is a folder", path=path, remedy="Name the recipe's YAML file.")
        if path.stat().st_size > _LIMIT:
            raise ConfigError("it is larger than 1 MB, which no recipe is", path=path)
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            "the recipe does not exist", path=path, remedy="Check the name and the folder."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("it is not UTF-8 text", path=path, remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"it can't be read ({error.strerror})", path=path) from error
    return parse_recipe_text(text, path=path)


def parse_recipe_text(text: str, *, path: Path | None = None) -> dict[str, Any]:
    """Return the keys and values of YAML text; `path` is for messages.

    Raises
    ------
    ConfigError
        As `read_recipe_text`.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            raise ConfigError(
                f"line {number} is indented by a tab", path=path, remedy="Use spaces only."
            )
    try:
        _refuse_doubled(yaml.compose(text, Loader=yaml.SafeLoader), path, set())
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{where}not readable YAML ({problem})",
            path=path,
            remedy="Write 'key: value', with a space after the colon.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not readable YAML ({error})", path=path) from error
    if not isinstance(data, dict):
        raise ConfigError(
            "it is empty" if data is None else "it does not hold keys and values",
            path=path,
            remedy="Begin with a line like 'name: my-recipe'.",
        )
    return data


def _refuse_doubled(node: yaml.Node | None, path: Path | None, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if str(key.value) in lines:
                raise ConfigError(
                    f"the key '{key.value}' stands twice, in lines {lines[str(key.value)]} "
                    f"and {line}",
                    path=path,
                    remedy="Remove one of them.",
                )
            lines[str(key.value)] = line
            _refuse_doubled(value, path, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubled(value, path, seen)
