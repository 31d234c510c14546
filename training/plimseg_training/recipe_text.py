"""Recipe text to plain data: YAML with one meaning only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

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
