"""The documentation site builds without warnings and network, and names files that exist."""

from __future__ import annotations

import ast
import importlib
import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SCRIPTS = ROOT / "scripts"
GUIDE = (DOCS / "developer_guide.md").read_text("utf-8")
TOP = ("src/", "training/", "tests/", "docs/", "scripts/", "examples/", "benchmarks/")


class Loaded(HTMLParser):
    """Collects what a browser loads for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        loads = tag in {"script", "img", "iframe", "source"} or (
            tag == "link" and found.get("rel") in {"stylesheet", "preload", "preconnect", "icon"}
        )
        self.addresses += [str(found[key]) for key in ("src", "href") if loads and found.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once, as `make docs` does."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"the build tried to connect to {address!r}")

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
    with pytest.MonkeyPatch.context() as patch:
        # this fixture comes before the one of each test that refuses connections
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return folder


@pytest.mark.slow
def test_the_site_builds_strictly_and_without_network(site: Path) -> None:
    pages = {path.relative_to(site).parent.as_posix() for path in site.rglob("index.html")}
    sources = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    sources = {name.removesuffix("index").rstrip("/") or "." for name in sources}
    assert sources <= pages
    assert {"model_card", "changelog", "contributing"} <= pages


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text("utf-8"))
        assert parser.addresses
        for address in parser.addresses:
            assert not re.match(r"(https?:)?//", address), f"{page.relative_to(site)}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", sheet.read_text("utf-8")), sheet.name


@pytest.mark.slow
def test_links_out_of_the_folder_of_documents_lead_to_pages_or_to_the_repository(
    site: Path,
) -> None:
    models = (site / "models" / "index.html").read_text("utf-8")
    assert 'href="../model_card/"' in models
    contributing = (site / "developer_guide" / "index.html").read_text("utf-8")
    assert 'href="../contributing/"' in contributing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("slides", "napari_plimseg.slides.open_slide"),
        ("models", "napari_plimseg.models.loading.load_model"),
        ("results", "napari_plimseg.results.mask_store.MaskStore"),
        ("inference", "napari_plimseg.inference.engine.segment_slide"),
        ("training", "plimseg_training.evaluation.scoring.evaluate"),
    ],
)
def test_the_reference_has_public_objects_with_their_parameters(
    site: Path, page: str, name: str
) -> None:
    text = (site / "reference" / page / "index.html").read_text("utf-8")
    assert f'id="{name}"' in text
    assert f'id="{name.rpartition(".")[0]}._' not in text
    assert "Parameters:" in text


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    navigation = yaml.safe_load(text)["nav"]
    named = set(re.findall(r"[\w/]+\.md", str(navigation)))
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} <= named


def paths_in(text: str) -> list[str]:
    return [path for path in re.findall(r"`([\w./-]+)`", text) if path.startswith(TOP)]


def test_the_developer_guide_names_files_that_exist() -> None:
    paths = paths_in(GUIDE)
    assert len(paths) > 20
    for path in paths:
        place = ROOT / path
        new = place.name.startswith("my_")
        assert place.parent.is_dir() if new else place.exists(), path
        assert not (new and place.exists()), path


def test_the_developer_guide_names_what_is_in_the_files() -> None:
    rows = re.findall(r"^\| `([\w./]+)`[^|]*\| (.+) \|$", GUIDE, re.MULTILINE)
    rows += [(path, f"`{name}`") for name, path in re.findall(r"`(\w+)` in `([\w./]+)`", GUIDE)]
    checked = 0
    for path, change in rows:
        names = re.findall(r"`([A-Za-z_]\w+)`", change)
        if not path.rpartition("/")[2].startswith("my_"):
            text = (ROOT / path).read_text("utf-8")
            for name in names:
                checked += 1
                assert re.search(rf"\b{name}\b", text), f"{path} has no {name}"
    assert checked > 8


def test_the_picture_of_the_architecture_is_up_to_date(tmp_path: Path) -> None:
    new = tmp_path / "architecture.svg"
    subprocess.run(
        [sys.executable, SCRIPTS / "draw_architecture.py", "--out", new],
        check=True,
        capture_output=True,
    )
    committed = (DOCS / "images" / "architecture.svg").read_text("utf-8")
    assert new.read_text("utf-8") == committed, "run: python scripts/draw_architecture.py"
    assert ">slides</text>" in committed


def test_the_script_counts_modules_imports_and_circles() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "draw_architecture.py", "--count"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = dict(re.findall(r"^(\w[\w ]+?) {2,}([\d.]+)$", done.stdout, re.MULTILINE))
    assert set(found) == {"modules", "median lines", "imports between files", "import circles"}
    assert int(found["modules"]) > 100
    assert int(found["imports between files"]) > int(found["modules"])


def test_imports_are_counted_once_each_with_hints_and_lazy_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import import_graph

    package = tmp_path / "house"
    (package / "cellar").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Only a docstring."""\n')
    (package / "cellar" / "__init__.py").write_text("from house.cellar.wine import red\n")
    (package / "cellar" / "wine.py").write_text("import os\nred = 1\n")
    (package / "attic.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from house import cellar\n"
        "from house.cellar import red, wine\n"
        "if TYPE_CHECKING:\n    from house.roof import Tile\n"
    )
    (package / "roof.py").write_text(
        "def f():\n    from . import attic\n    from .attic import x\n"
    )
    graph = import_graph.read_imports((package,))
    assert set(graph.lines) == {"house.attic", "house.cellar.wine", "house.roof"}
    assert graph.imports == {
        ("house.cellar", "house.cellar.wine"),
        ("house.attic", "house.cellar"),
        ("house.attic", "house.cellar.wine"),
        ("house.attic", "house.roof"),
        ("house.roof", "house.attic"),
    }
    assert graph.circles() == [["house.attic", "house.roof"]]
    assert graph.folder_imports() == {("house", "house.cellar")}
    assert graph.median_lines == 3


def test_arrows_that_follow_from_others_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from draw_architecture import without_implied

    arrows = frozenset({("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("e", "c")})
    assert without_implied(arrows) == [("a", "b"), ("b", "c"), ("c", "d"), ("e", "c")]
    circle = frozenset({("a", "b"), ("b", "a"), ("b", "c"), ("a", "c")})
    assert {("a", "b"), ("b", "a")} <= set(without_implied(circle))


PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    ROOT / "src" / "napari_plimseg" / "models" / "bundled" / "MODEL_CARD.md",
    *sorted(DOCS.rglob("*.md")),
)
BASES = (ROOT, ROOT / "src" / "napari_plimseg", ROOT / "training")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_names_scripts_and_modules_that_exist(page: Path) -> None:
    for path in re.findall(r"[`\s]((?:\w+/)+\w+\.py)\b", page.read_text("utf-8")):
        new = path.rpartition("/")[2].startswith("my_")
        assert new or any((base / path).is_file() for base in BASES), path


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_imports_of_a_page_s_python_work(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), node.module
