"""The house keeps its shape: who may import whom, what is never called, how long a module is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "napari_plimseg"
MODULES = sorted(p for p in SOURCE.rglob("*.py"))
OURS = [*MODULES, *sorted((ROOT / "training").rglob("*.py"))]

# lower layers first; a module imports its own layer and the ones before it
LAYERS = [
    {"errors", "files", "__init__"},
    {"tissue", "tiling"},
    {"slides"},
    {"models"},
    {"results"},
    {"inference"},
    {"training_runs"},
    {"settings"},
    {"api"},
    {
        *("_reader", "_sample_data", "_writer", "_widgets"),
        "cli",
    },
]
# results.mask_info and the readers share the slides' Region; models see pixels, never slides
FORBIDDEN = {("models", "slides"), ("models", "results"), ("tissue", "tiling")}
# `Segmentation.view` opens napari, and only when it is called
UPWARD = {("api", "napari_plimseg._widgets.open_in_viewer")}
GUI = {"qtpy", "napari", "magicgui", "superqt", "PySide6", "PyQt6", "vispy"}


def top(module: str) -> str:
    """Return the part of the house a dotted module name belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def layer_of(part: str) -> int:
    for i, layer in enumerate(LAYERS):
        if part in layer:
            return i
    pytest.fail(f"'{part}' has no place in the layers: add it to this test on purpose")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module, at run time and at module level)."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only |= {id(child) for part in node.body for child in ast.walk(part)}
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names = [node.module or ""]
            if node.module == "napari_plimseg":
                names = [f"napari_plimseg.{alias.name}" for alias in node.names]
        found += [(name, id(node) not in typing_only) for name in names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_the_layers_only(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module, at_run_time in imports(path):
        if module == "napari_plimseg.__version__":
            continue
        assert not module.startswith("plimseg_training"), f"{path.name} imports the trainer"
        if module.startswith("napari_plimseg.") and (own, module) not in UPWARD:
            other = top(module)
            assert layer_of(other) <= layer_of(own), f"{own} must not import {other}"
            assert (own, other) not in FORBIDDEN, f"{own} must not import {other}"
        if at_run_time and own != "_widgets":
            assert module.split(".")[0] not in GUI, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_modules_stay_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 450, f"{path.name} has {lines} lines: it wants to be two"


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text("utf-8"))
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def is_of_pickle(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_nothing_dangerous_is_called(path: Path) -> None:
    for name, call in calls(path):
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert name not in {"eval", "exec", "yaml.load", "pickle.load", "pickle.loads"}, name
        assert keywords.get("shell") != "True"
        assert keywords.get("allow_pickle") != "True"
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", f"{path.name}: torch.load unpickles"
    assert not any(m.split(".")[0] in {"shelve", "dill", "joblib"} for m, _ in imports(path))
    # the one use of pickle is the name of its exception
    used = {n.attr for n in ast.walk(ast.parse(path.read_text("utf-8"))) if is_of_pickle(n)}
    assert used <= {"UnpicklingError"}


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import napari_plimseg", {"torch", "napari", "qtpy", "numpy", "open_clip", "openslide"}),
        ("import napari_plimseg.api", {"torch", "napari", "qtpy", "open_clip", "geopandas"}),
        ("from napari_plimseg.results.export import FORMATS", {"numpy", "rasterio", "tifffile"}),
        ("import napari_plimseg.cli", {"torch", "napari", "qtpy", "open_clip", "openslide"}),
        ("import napari_plimseg._reader", {"torch", "napari", "qtpy", "open_clip"}),
        ("import napari_plimseg._writer", {"torch", "napari", "qtpy", "open_clip", "rasterio"}),
        ("import napari_plimseg.slides", {"torch", "napari", "qtpy", "open_clip"}),
        ("import napari_plimseg.models", {"torch", "napari", "qtpy", "open_clip"}),
        ("import napari_plimseg.inference.plan", {"torch", "napari", "qtpy", "open_clip"}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert not absent & loaded_after(statement)


def test_the_manifest_at_the_root_is_the_package_s() -> None:
    assert (ROOT / "napari.yaml").resolve() == (SOURCE / "napari.yaml").resolve()


def test_the_manifest_is_valid_and_its_commands_exist() -> None:
    from importlib import import_module

    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(SOURCE / "napari.yaml")
    for command in manifest.contributions.commands or []:
        module, _, name = str(command.python_name).partition(":")
        if module.startswith("napari_plimseg._widgets"):
            assert (
                f"class {name}" in (ROOT / "src" / (module.replace(".", "/") + ".py")).read_text()
            )
        else:
            assert callable(getattr(import_module(module), name))
