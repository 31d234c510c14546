"""Every example runs, as a stranger would start it, and every public function has one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_plimseg

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
FUNCTIONS = [name for name in napari_plimseg.__all__ if name[0].islower()]


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs_and_prints(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("name", [*FUNCTIONS, "MaskStore", "Segmentation", "TissueClasses"])
def test_every_public_name_has_an_example(name: str) -> None:
    used = set()
    for path in EXAMPLES:
        tree = ast.parse(path.read_text("utf-8"))
        used |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert name in used


def test_examples_use_the_public_names_only() -> None:
    for path in EXAMPLES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "napari_plimseg":
                assert {a.name for a in node.names} <= set(napari_plimseg.__all__), path.name
