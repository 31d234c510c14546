"""The architecture: who may import whom, and how large a module may be.

What is never called: `test_dangerous_calls.py`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module

import pytest

from scripts.import_graph import PACKAGES, read_imports
from tests.support.paths import ROOT

SOURCE = ROOT / "src" / "napari_plimseg"
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
GRAPH = read_imports()
GUI = {"qtpy", "napari", "magicgui", "superqt", "PySide6", "PyQt6", "vispy"}

# Lower rows first: a part imports its own row and the rows before it.
LAYERS = {
    "napari_plimseg": [
        {"errors", "files", "fingerprints", "limits", "palette", "reading", "tables", "_version"},
        {"tissue", "tiling"},
        {"slides"},
        {"models"},
        {"results"},
        {"inference"},
        {"training_runs"},
        {"settings"},
        {"_reader", "_writer", "_sample_data", "_widgets"},
        {"api"},  # a Segmentation can show itself in the viewer
        {"cli"},
    ],
    "napari_plimseg._widgets": [
        {"common", "docks"},
        {"viewer"},
        {"generate", "review"},
        {"train", "batch", "model_manager"},
        {"open_in_viewer"},
    ],
    "napari_plimseg._widgets.review": [
        {"messages"},
        {"correct", "inspect", "class_editor"},
        {"promptable"},
        {"dock"},
    ],
    "napari_plimseg.slides": [
        {"slide", "color", "metadata", "ome_xml"},
        {"display", "tissue_mask", "validation"},
        {"readers"},
        {"opening"},
    ],
    "napari_plimseg.models": [
        {"acceleration", "torchvision_compat", "layers", "windows", "tensor_file", "downloads"},
        {"pickled_file"},
        {"weights"},
        {"class_gate", "surroundings"},
        {"model_file"},
        {"encoders"},
        {"familiarity"},
        {"segmentation", "promptable"},
        {"library"},
        {"loading"},
        {"trial"},
        {"importing"},
    ],
    "napari_plimseg.results": [
        {
            "mask_info",
            "class_edits",
            "editing",
            "ngff",
            "store_arrays",
            "store_layout",
            "store_damage",
            "store_manifest",
        },
        {"mask_store", "measure", "corrections"},
        {"export"},
        {"analysis"},
    ],
    "napari_plimseg.inference": [
        {"devices", "progress", "slide_places"},
        {"names", "plan", "unlike", "computation", "engine", "job", "cohort", "cams"},
        {"cluster"},
        {"promptable"},
    ],
    "plimseg_training": [
        {"config", "events"},
        {"data", "run_folder"},
        {"evaluation", "loop"},
        {"stages", "report", "console"},
        {"promptable"},
        {"pipeline"},
        {"timing"},
        {"commands"},
        {"__main__"},
    ],
}
# models see pixels, never slides or results; tissue classes and tiles know nothing of each other
FORBIDDEN = {("models", "slides"), ("models", "results"), ("tissue", "tiling")}
LARGEST_MODULE, LARGEST_CLASS, SMALLEST_HELPER = 800, 400, 60
# each module here is one row of a table, which imports it: a reader, an export, a command, ...
OF_TABLES = (
    "napari_plimseg.slides.readers.",
    "napari_plimseg.results.export.",
    "napari_plimseg.models.encoders.",
    "napari_plimseg.cli.",
    "plimseg_training.commands.",
)


def part_of(module: str, package: str) -> str | None:
    """Return the part of a package that a module belongs to; None outside of the package."""
    prefix = f"{package}."
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else None


def test_no_import_circle() -> None:
    # it also keeps a base class and the factory that knows its subclasses in two files
    assert GRAPH.circles() == []


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down_the_layers(package: str) -> None:
    level = {part: number for number, row in enumerate(LAYERS[package]) for part in row}
    parts = {part_of(module, package) for module in GRAPH.lines} - {None}
    assert parts == set(level), "each part has its place in LAYERS, and each place has its part"
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in sorted(GRAPH.imports)
        if (own := part_of(importer, package)) and (other := part_of(imported, package))
        if level[other] > level[own] or (own, other) in FORBIDDEN
    ]
    assert not wrong


def test_the_package_never_imports_the_trainer() -> None:
    trainer = [a for a, b in GRAPH.imports if b.startswith("plimseg_training")]
    assert not [importer for importer in trainer if importer.startswith("napari_plimseg")]


def test_modules_and_classes_are_neither_huge_nor_tiny() -> None:
    importers: dict[str, set[str]] = {}
    for importer, imported in GRAPH.uses:
        if importer in GRAPH.lines:
            importers.setdefault(imported, set()).add(importer)
    wrong = [
        f"{path.relative_to(ROOT)}: class {node.name} has {length} lines"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > LARGEST_CLASS
    ]
    for module, lines in GRAPH.lines.items():
        if lines > LARGEST_MODULE:
            wrong.append(f"{module} has {lines} lines")
        small = lines < SMALLEST_HELPER and not module.startswith(OF_TABLES)
        if small and len(importers.get(module, ())) == 1:
            wrong.append(f"{module} has {lines} lines and only {importers[module]} imports it")
    assert not wrong


def test_packages_are_imported_by_their_faces() -> None:
    whole = {
        "napari_plimseg.slides.tissue_mask",  # has a function of its own name
        "napari_plimseg._widgets.viewer.label_history",  # its short names need it in front
    }
    # what a part of the program imports from one that is no library: its commands, its modules
    open_packages = {
        *("napari_plimseg", "napari_plimseg._widgets", "napari_plimseg.cli"),
        *("plimseg_training", "plimseg_training.commands"),
        "napari_plimseg.slides.readers",  # the table of formats imports each of them
    }
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in sorted(GRAPH.imports)
        if importer in GRAPH.lines and imported in GRAPH.lines and imported not in whole
        if (package := GRAPH.folders[imported]) not in open_packages
        if not importer.startswith(f"{package}.")
    ]
    assert not wrong


def test_modules_are_rooms_not_cupboards() -> None:
    # 226 modules, 1,099 imports and a median of 214 lines when this rule was made; before, 295
    # modules of 156 lines with 1,314 imports
    assert len(GRAPH.imports) <= 5 * len(GRAPH.lines)
    assert GRAPH.median_lines > 200


def imported_at_run_time(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports, those for type hints left out."""
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for child in ast.walk(part)
    }
    found = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add((node.module or "").split(".")[0])
    return found


def test_only_the_widgets_import_a_gui() -> None:
    wrong = [
        path.relative_to(ROOT)
        for path in MODULES
        if SOURCE / "_widgets" not in path.parents
        if GUI & imported_at_run_time(ast.parse(path.read_text("utf-8")))
    ]
    assert wrong == []


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import napari_plimseg", {"torch", "napari", "qtpy", "numpy", "open_clip", "openslide"}),
        ("import napari_plimseg.cli", {"torch", "napari", "qtpy", "openslide", "distributed"}),
        ("import napari_plimseg.cli.cluster", {"torch", "distributed", "dask_jobqueue"}),
        ("import napari_plimseg.inference.cluster.run", {"distributed", "dask_jobqueue", "torch"}),
        ("import napari_plimseg._reader", {"torch", "napari", "qtpy", "open_clip"}),
        ("import napari_plimseg._writer", {"torch", "napari", "qtpy", "open_clip", "rasterio"}),
        ("import napari_plimseg.slides", {"torch", "napari", "qtpy", "open_clip"}),
        ("import napari_plimseg.models.library", {"torch", "napari", "qtpy", "open_clip"}),
        ("import napari_plimseg.inference.plan", {"torch", "napari", "qtpy", "open_clip"}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert not absent & loaded_after(statement)


def test_the_manifest_at_the_root_is_the_package_s() -> None:
    assert (ROOT / "napari.yaml").resolve() == (SOURCE / "napari.yaml").resolve()


def test_the_manifest_is_valid_and_its_commands_exist() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(SOURCE / "napari.yaml")
    for command in manifest.contributions.commands or []:
        module, _, name = str(command.python_name).partition(":")
        if module.startswith("napari_plimseg._widgets"):
            path = ROOT / "src" / (module.replace(".", "/") + ".py")
            text = path.read_text("utf-8")
            assert f"\nclass {name}(" in text or f"\ndef {name}(" in text
        else:
            assert callable(getattr(import_module(module), name))
