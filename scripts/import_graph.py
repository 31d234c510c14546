"""The imports between the project's own files, read from the source without running it.

`draw_architecture.py` draws them, and the architecture tests check them. An import is one pair of
importing and imported module, however often it is written; imports inside functions and for type
hints count. The `__init__.py` of a package with code in it is the package's face: imports lead to
it and from it (as its stub `__init__.pyi` says where there is one), but it is no module.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "src" / "napari_plimseg", ROOT / "training" / "plimseg_training")


@dataclass(frozen=True)
class ImportGraph:
    """Modules of the project and who imports whom.

    Parameters
    ----------
    lines : dict of str to int
        Length of each module, by dotted name; faces of packages are left out.
    imports : set of (str, str)
        Importing and imported module.
    uses : set of (str, str)
        Importing module and the module that defines what it imports, also through a face.
    folders : dict of str to str
        For each module the folder that holds it, dotted; for a face the package itself.
    """

    lines: dict[str, int]
    imports: frozenset[tuple[str, str]]
    uses: frozenset[tuple[str, str]]
    folders: dict[str, str]

    @property
    def median_lines(self) -> float:
        """Median length of a module in lines."""
        return float(median(self.lines.values()))

    def circles(self) -> list[list[str]]:
        """Return the groups of modules that import each other, each sorted."""
        return circles(self.imports)

    def folder_imports(self) -> frozenset[tuple[str, str]]:
        """Return the pairs of importing and imported folder."""
        pairs = {(self.folders[a], self.folders[b]) for a, b in self.imports}
        return frozenset((a, b) for a, b in pairs if a != b)


def read_imports(packages: tuple[Path, ...] = PACKAGES) -> ImportGraph:
    """Read the imports between all modules of some packages.

    Parameters
    ----------
    packages : tuple of Path
        Folders of top-level packages.

    Raises
    ------
    SyntaxError
        When a module can't be parsed.
    """
    trees: dict[str, ast.Module] = {}
    lines: dict[str, int] = {}
    folders: dict[str, str] = {}
    faces: set[str] = set()
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            if parts[-1] == "__init__":
                name = ".".join(parts[:-1])
                stub = path.with_suffix(".pyi")
                tree = _parsed(stub if stub.exists() else path)
                if _has_code(tree):
                    faces.add(name)
                    trees[name], folders[name] = tree, name
                continue
            name = ".".join(parts)
            trees[name] = _parsed(path)
            lines[name] = len(path.read_text("utf-8").splitlines())
            folders[name] = ".".join(parts[:-1])
    offered = {
        (face, name): module
        for face in faces
        for module, names in _imported(trees[face], face, True, trees).items()
        for name in names
    }
    imports, uses = set(), set()
    for name, tree in trees.items():
        for other, names in _imported(tree, name, name in faces, trees).items():
            if other == name:
                continue
            imports.add((name, other))
            uses |= {(name, offered.get((other, what), other)) for what in names or {""}}
    return ImportGraph(lines, frozenset(imports), frozenset(uses), folders)


def circles(arrows: frozenset[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other along arrows, each sorted.

    Parameters
    ----------
    arrows : frozenset of (str, str)
        From, to.
    """
    reached = reachable(arrows)
    groups = {
        tuple(sorted(b for b in reached[a] if a in reached[b])) for a in reached if a in reached[a]
    }
    return [list(group) for group in sorted(groups)]


def reachable(arrows: frozenset[tuple[str, str]]) -> dict[str, set[str]]:
    """Return for each node the nodes that arrows lead to, directly or through others.

    Parameters
    ----------
    arrows : frozenset of (str, str)
        From, to.
    """
    ahead: defaultdict[str, set[str]] = defaultdict(set)
    for start, end in arrows:
        ahead[start].add(end)
        ahead[end]
    found = {}
    for start in ahead:
        seen: set[str] = set()
        waiting = [*ahead[start]]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += ahead[node]
        found[start] = seen
    return found


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def _has_code(tree: ast.Module) -> bool:
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in tree.body
    )


def _imported(
    tree: ast.Module, name: str, is_package: bool, known: Mapping[str, object]
) -> dict[str, set[str]]:
    """Return the names that a module imports by the module or face they are imported from."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in known:
                    found[alias.name]  # the module itself
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                # "from package import module" imports the module, any other name the package
                deeper = f"{base}.{alias.name}"
                if deeper in known:
                    found[deeper]
                elif base in known:
                    found[base].add(alias.name)
    return found
