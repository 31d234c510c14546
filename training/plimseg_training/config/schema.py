"""Strict YAML to frozen pydantic dataclasses, with messages that name the key and the remedy."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, dataclass_transform

import pydantic
import yaml
from pydantic import AfterValidator, BeforeValidator, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from napari_plimseg.errors import ConfigError, user_path
from napari_plimseg.files import atomic_write
from napari_plimseg.reading import parse_yaml, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails


Section = TypeVar("Section")
Item = TypeVar("Item")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_NOT_EXPANDED = re.compile(r"^~|\$\{?[A-Za-z_]|%[A-Za-z_]\w*%")
_CONFIG = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def section(cls: type[Section]) -> type[Section]:
    """Make a class a frozen, checked dataclass that a recipe's keys fill.

    Built in Python, it raises the same `ConfigError` as when it is read from a file.
    """
    made: Any = pydantic.dataclasses.dataclass(cls, frozen=True, config=_CONFIG)
    initialize = made.__init__

    def checked(self: Any, *values: Any, **named: Any) -> None:
        try:
            initialize(self, *values, **named)
        except ValidationError as error:
            raise _explained(error, made, None) from error

    made.__init__ = checked
    return made  # type: ignore[no-any-return]


def refusal(problem: str, remedy: str) -> PydanticCustomError:
    """Return the error for a validator to raise: "the key 'x' `problem`", and what to write."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "remedy": remedy})


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 as text, and nobody who writes it means text
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


Number = Annotated[float, Strict(), BeforeValidator(_number)]
"""A finite float; YAML's integers are converted, its texts and booleans are not."""


def between(
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    or_zero: bool = False,
) -> AfterValidator:
    """Return the check that a number is at least `low` and at most `high`.

    Parameters
    ----------
    low, high : float
        The ends of the range.
    above, below : bool
        Whether `low`, or `high`, is itself refused.
    or_zero : bool
        Whether 0 is allowed as well.
    """
    text = f"{'0, or ' if or_zero else ''}{'more than' if above else 'at least'} {low:.12g}"
    if math.isfinite(high):
        text += f" and {'less than' if below else 'at most'} {high:.12g}"

    def checked(value: float | None) -> float | None:
        if value is None or (or_zero and value == 0):
            return value
        if (value > low if above else value >= low) and (value < high if below else value <= high):
            return value
        shown = str(value) if isinstance(value, int) else f"{value:.12g}"
        raise refusal(f"is {shown}", f"It must be {text}.")

    return AfterValidator(checked)


def multiple_of(step: int) -> AfterValidator:
    """Return the check that a whole number is a multiple of `step`."""

    def checked(value: int) -> int:
        if value % step:
            raise refusal(f"is {value}", f"Write a multiple of {step}.")
        return value

    return AfterValidator(checked)


def _resolved(value: Any, info: pydantic.ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, str):
        return resolved(value, info)
    raise refusal(f"holds {named(value)}", "Write a path as text.")


def resolved(text: str, info: pydantic.ValidationInfo) -> Path:
    """Return a path named in a recipe, relative to the recipe's folder.

    `~` and variables are refused, so that a recipe means the same on every computer.
    """
    if not text.strip():
        raise refusal("is empty", "Write a path.")
    if _NOT_EXPANDED.search(text):
        raise refusal(
            f"is '{text}', and neither ~ nor variables are replaced in a recipe",
            "Write the whole path, or one relative to the recipe's folder.",
        )
    folder = Path() if info.context is None else info.context["folder"]
    return Path(folder).absolute() / text


RecipePath = Annotated[Path, BeforeValidator(_resolved)]
"""A path; text is relative to the recipe's folder."""

Items = Annotated[
    tuple[Item, ...],
    Strict(),
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]
"""A YAML list, kept as a tuple."""


class RecipeFile:
    """What all recipes share: reading from plain data, writing as YAML, changing single keys."""

    @classmethod
    def from_dict(cls, data: Any, *, path: str | Path | None = None) -> Self:
        """Build from plain data.

        Parameters
        ----------
        data : dict
            As YAML gives it.
        path : str or Path, optional
            The recipe's file, for messages; relative paths in it are resolved against its folder.

        Raises
        ------
        ConfigError
            Naming the key, the file and what to write instead.
        """
        path = None if path is None else Path(path)
        context = None if path is None else {"folder": path.parent}
        try:
            return TypeAdapter(cls).validate_python(data, context=context)
        except ValidationError as error:
            raise _explained(error, cls, path) from error
        except ConfigError as error:
            raise _in_file(error, path) from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        data: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return data

    def to_text(self) -> str:
        """Return the recipe as YAML text with every key."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_yaml(self, path: str | Path) -> None:
        """Write the recipe as YAML, atomically."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.to_text(), "utf-8")

    def override(self, settings: str | Iterable[str]) -> Self:
        """Return a copy with keys set as on a command line: "stage1.epochs=2".

        Paths are relative to the working folder, as everywhere on a command line.

        Raises
        ------
        ConfigError
            When a setting is not `key=value`, or the key or value is wrong.
        """
        data = self.to_dict()
        for setting in [settings] if isinstance(settings, str) else settings:
            key, sign, text = setting.partition("=")
            if not sign or not key.strip():
                raise ConfigError(
                    f"the setting '{setting}' is not key=value",
                    remedy="Write it like stage1.epochs=2.",
                )
            value = parse_recipe_text(f"value: {text.strip()}")["value"]
            if isinstance(value, str) and value.startswith("~"):
                value = str(user_path(value))
            _set_key(data, key.strip(), value)
        return self.from_dict(data)


def _set_key(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested plain data in place; `from_dict` checks its last part."""
    *sections, name = key.split(".")
    for part in sections:
        if not isinstance(data.get(part), dict):
            raise _unknown_key(key, part, data)
        data = data[part]
    data[name] = value


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain data with dotted keys: {"stage1.epochs": 2}."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, dict):
            found |= flat(value, key)
        else:
            found[key] = value
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" with the known word spelled most like `word`, or nothing."""
    close = difflib.get_close_matches(word.casefold(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _unknown_key(
    key: str, part: str, known: Iterable[str], path: Path | None = None
) -> ConfigError:
    return ConfigError(
        f"the key '{key}' is not known{did_you_mean(part, known)}",
        path=path,
        remedy=f"Known here: {', '.join(known)}.",
    )


def _in_file(error: ConfigError, path: Path | None) -> ConfigError:
    return ConfigError(error.problem, path=path, remedy=error.remedy)


_UNKNOWN = {"unexpected_keyword_argument", "invalid_key"}
_WANTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text (in quotes when it looks like a number)",
    "tuple_type": "a list in square brackets",
    "dict_type": "keys and values",
}


def _explained(error: ValidationError, cls: Any, path: Path | None) -> ConfigError:
    """Return the most telling of pydantic's errors in our words."""
    # a misspelled key is also a missing one: the misspelling is what must be corrected
    found = min(
        error.errors(include_url=False),
        key=lambda one: 0 if one["type"] in _UNKNOWN else 1 if one["type"] == "missing" else 2,
    )
    if found["type"] in _UNKNOWN:
        *sections, name = (str(part) for part in found["loc"])
        for part in sections:
            cls = cls.__pydantic_fields__[part].annotation
        return _unknown_key(".".join([*sections, name]), name, cls.__pydantic_fields__, path)
    # a number in `loc` is a position in a list: the list's key says enough
    key = ".".join(part for part in found["loc"] if isinstance(part, str))
    problem, remedy = _problem_and_remedy(found)
    subject = f"the key '{key}'" if key else "the recipe"
    return ConfigError(f"{subject} {problem}", path=path, remedy=remedy)


def _problem_and_remedy(found: ErrorDetails) -> tuple[str, str]:
    kind, value, about = found["type"], found["input"], found.get("ctx", {})
    if kind == "refused":
        return about["problem"], about["remedy"]
    if kind == "missing":
        return "is missing", "Add it."
    if kind == "dataclass_type":
        return (
            f"holds {named(value)} instead of keys and values",
            "Write 'key: value' lines, indented by spaces.",
        )
    if kind == "literal_error":
        choices = about["expected"].replace(" or ", ", ")
        return f"is {named(value)}", f"Choose one of {choices}."
    if kind == "finite_number":
        return f"is {value}", "Write a finite number."
    if kind in _WANTED:
        return f"holds {named(value)}", f"Write {_WANTED[kind]}."
    return f"is wrong ({found['msg']})", "See the keys of a recipe in the guide to training."


def named(value: Any) -> str:
    """Return a value as a message names it: "the number 3", "a list"."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a list" if isinstance(value, list | tuple) else "keys and values"


def read_recipe_text(path: Path) -> dict[str, Any]:
    """Read a YAML file with keys and values at its top level.

    Raises
    ------
    ConfigError
        When the file is missing or unreadable, is not YAML, holds a key twice, is indented by
        tabs, or has no keys and values; with the line where there is one.
    """
    return parse_recipe_text(read_text(path, ConfigError, limit="yaml-bytes"), path=path)


def parse_recipe_text(text: str, *, path: Path | None = None) -> dict[str, Any]:
    """Return the keys and values of YAML text; `path` is for messages.

    Raises
    ------
    ConfigError
        As `read_recipe_text`.
    """
    data = parse_yaml(text, ConfigError, path=path)
    if not isinstance(data, dict):
        raise ConfigError(
            "it is empty" if data is None else "it does not hold keys and values",
            path=path,
            remedy="Begin with a line like 'name: my-recipe'.",
        )
    return data
