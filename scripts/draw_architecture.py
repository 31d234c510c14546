"""Draw the folders of the source and who imports whom, or count modules and imports.

    python scripts/draw_architecture.py            writes docs/images/architecture.svg
    python scripts/draw_architecture.py --count    prints the size of the source

The picture has one box per folder, inside the box of its parent folder, and one per module at the
top of `napari_plimseg`. An arrow leads from the importing to the imported box. Arrows that follow
from others are left out: where A imports B and B imports C, A may import C too without an arrow.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from import_graph import ROOT, ImportGraph, reachable, read_imports

PICTURE = ROOT / "docs" / "images" / "architecture.svg"
GAP, ROW_GAP, PADDING = 16, 40, 14
BOX_HEIGHT, TITLE_HEIGHT, CHARACTER_WIDTH = 30, 22, 7.6
LANE_WIDTH = 6
STYLE = """
text { font: 13px sans-serif; fill: #1b1b1f; text-anchor: middle }
.title { font-weight: bold }
.package { fill: #eceff8; stroke: #5a6aa5 }
.folder { fill: #ffffff; stroke: #5a6aa5 }
.arrow { fill: none; stroke: #5a6aa5; stroke-width: 1.2; marker-end: url(#head) }
"""
HEAD = (
    '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8.5" refY="4" orient="auto">'
    '<path d="M0,0 L9,4 L0,8 z" fill="#5a6aa5"/></marker></defs>'
)

Arrows = list[tuple[str, str]]


@dataclass
class Box:
    """A folder in the picture, with the folders inside it.

    `x` and `y` are pixels from the top left corner of the parent.
    """

    name: str
    children: list[Box] = field(default_factory=list)
    arrows: Arrows = field(default_factory=list)
    rows: list[list[Box]] = field(default_factory=list)
    """Children and lanes from top to bottom."""
    ways: list[list[Box]] = field(default_factory=list)
    """For each arrow its first box, the lanes that it takes through the rows between, its last."""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    row: tuple[float, float] = (0.0, 0.0)
    """Top and bottom of its row, in the pixels of `y`."""


def picture(graph: ImportGraph) -> str:
    """Return the picture of the folders and their imports as SVG.

    Parameters
    ----------
    graph : ImportGraph
    """
    # the package itself is no box: its parts stand beside the trainer
    places = {
        module: module if folder == "napari_plimseg" else folder
        for module, folder in graph.folders.items()
        if module != "napari_plimseg"
    }
    pairs = {(places[a], places[b]) for a, b in graph.imports if a in places and b in places}
    whole = _tree("", sorted(set(places.values())), pairs)
    _lay_out(whole)
    width, height = round(whole.width), round(whole.height)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">',
            f"<style>{STYLE}</style>",
            HEAD,
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *_drawn(whole, 0.0, 0.0),
            "</svg>\n",
        ]
    )


def count(graph: ImportGraph) -> str:
    """Return modules, median length, imports and import circles as text.

    Parameters
    ----------
    graph : ImportGraph
    """
    circles = graph.circles()
    rows = [
        ("modules", len(graph.lines)),
        ("median lines", f"{graph.median_lines:g}"),
        ("imports between files", len(graph.imports)),
        ("import circles", len(circles)),
    ]
    lines = [f"{name:<23}{value}" for name, value in rows]
    return "\n".join([*lines, *("  " + ", ".join(circle) for circle in circles)])


def without_implied(arrows: frozenset[tuple[str, str]]) -> Arrows:
    """Return the arrows that don't follow from others, sorted; those of a circle all stay.

    Parameters
    ----------
    arrows : frozenset of (str, str)
        From, to.
    """
    reached = reachable(arrows)
    kept = []
    for start, end in sorted(arrows):
        between = {b for a, b in arrows if a == start and b != end and start not in reached[b]}
        if start in reached[end] or not any(end in reached[node] for node in between):
            kept.append((start, end))
    return kept


def _tree(name: str, folders: list[str], pairs: set[tuple[str, str]]) -> Box:
    """Return the box of a folder; modules that lie directly in it are not drawn inside."""
    part_of = {folder: _part(name, folder) for folder in folders if folder != name}
    box = Box(name)
    for part in sorted(set(part_of.values())):
        box.children.append(_tree(part, [f for f, p in part_of.items() if p == part], pairs))
    inside = {(part_of[a], part_of[b]) for a, b in pairs if a in part_of and b in part_of}
    box.arrows = without_implied(frozenset((a, b) for a, b in inside if a != b))
    return box


def _part(parent: str, folder: str) -> str:
    parts = folder.split(".")
    if parent:
        return ".".join(parts[: parent.count(".") + 2])
    return ".".join(parts[:2]) if parts[0] == "napari_plimseg" else parts[0]


def _lay_out(box: Box) -> None:
    """Give the box its size and everything inside it its place."""
    label_width = len(_label(box)) * CHARACTER_WIDTH + 2 * PADDING
    if not box.children:
        box.width, box.height = label_width, BOX_HEIGHT
        return
    for child in box.children:
        _lay_out(child)
    _make_rows(box)
    title = TITLE_HEIGHT if box.name else 0
    widths = [sum(b.width for b in row) + GAP * (len(row) - 1) for row in box.rows]
    box.width = max([label_width, *widths]) + 2 * PADDING
    y = float(PADDING + title)
    for row, width in zip(box.rows, widths, strict=True):
        height = max(b.height for b in row)
        # what a row has to spare goes between its boxes, so that arrows find a way
        gap = GAP + (box.width - 2 * PADDING - width) / (len(row) + 1)
        x = PADDING + gap - GAP
        for b in row:
            b.x, b.y = x, y + (height - b.height) / 2
            b.row = (y, y + height)
            x += b.width + gap
        y += height + ROW_GAP
    box.height = y - ROW_GAP + PADDING


def _make_rows(box: Box) -> None:
    """Sort the children into rows, importers above imported, with lanes for long arrows."""
    level = _levels([child.name for child in box.children], box.arrows)
    rows: list[list[Box]] = [[] for _ in range(max(level.values()) + 1)]
    for child in box.children:
        rows[-1 - level[child.name]].append(child)
    neighbors: defaultdict[int, list[Box]] = defaultdict(list)
    by_name = {child.name: child for child in box.children}
    for start, end in box.arrows:
        way = [by_name[start]]
        for between in range(level[start] - 1, level[end], -1):
            lane = Box("", width=LANE_WIDTH)
            rows[-1 - between].append(lane)
            way.append(lane)
        way.append(by_name[end])
        box.ways.append(way)
        for a, b in pairwise(way):
            neighbors[id(a)].append(b)
            neighbors[id(b)].append(a)
    _untangle(rows, neighbors)
    box.rows = rows


def _levels(names: list[str], arrows: Arrows) -> dict[str, int]:
    """Return the length of the longest way down from each box; circles count as one box."""
    reached = reachable(frozenset(arrows))
    down = {name: [b for a, b in arrows if a == name and a not in reached[b]] for name in names}
    level: dict[str, int] = {}

    def find(name: str) -> int:
        if name not in level:
            level[name] = 1 + max((find(b) for b in down[name]), default=-1)
        return level[name]

    for name in names:
        find(name)
    return level


def _untangle(rows: list[list[Box]], neighbors: dict[int, list[Box]]) -> None:
    """Order each row by the mean place of what its boxes are connected with."""
    for _ in range(8):
        for row in (*rows, *reversed(rows)):
            place = {id(b): (i + 0.5) / len(other) for other in rows for i, b in enumerate(other)}

            def mean(b: Box, place: dict[int, float] = place) -> float:
                near = [place[id(n)] for n in neighbors.get(id(b), ())]
                return sum(near) / len(near) if near else place[id(b)]

            row.sort(key=mean)


def _drawn(box: Box, x: float, y: float) -> list[str]:
    parts = []
    if box.name:
        kind = "package" if box.children else "folder"
        parts.append(
            f'<rect class="{kind}" rx="5" x="{x:.0f}" y="{y:.0f}" '
            f'width="{box.width:.0f}" height="{box.height:.0f}"/>'
        )
        title = ' class="title"' if box.children else ""
        parts.append(
            f'<text{title} x="{x + box.width / 2:.0f}" y="{y + 20:.0f}">'
            f"{escape(_label(box))}</text>"
        )
    for child in box.children:
        parts += _drawn(child, x + child.x, y + child.y)
    parts += [_arrow(way, x, y) for way in box.ways]
    return parts


def _arrow(way: list[Box], x: float, y: float) -> str:
    def middle(b: Box) -> float:
        return x + b.x + b.width / 2

    first, last = way[0], way[-1]
    if first.row == last.row:  # boxes of a circle share a row
        sign = 1 if last.x > first.x else -1
        near = x + first.x + (first.width if sign > 0 else 0)
        far = x + last.x + (0 if sign > 0 else last.width)
        line = f"M{near:.0f},{y + first.y + 15:.0f} L{far:.0f},{y + last.y + 15:.0f}"
        return f'<path class="arrow" d="{line}"/>'
    # straight within a row, bent between rows: so no arrow crosses a box
    path = f"M{middle(first):.0f},{y + first.y + first.height:.0f} V{y + first.row[1]:.0f}"
    for a, b in pairwise(way):
        start, end = y + a.row[1], y + b.row[0]
        bend = (start + end) / 2
        path += (
            f" C{middle(a):.0f},{bend:.0f} {middle(b):.0f},{bend:.0f} {middle(b):.0f},{end:.0f}"
            f" V{y + (b.y if b is last else b.row[1]):.0f}"
        )
    return f'<path class="arrow" d="{path}"/>'


def _label(box: Box) -> str:
    return box.name.rpartition(".")[2]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", action="store_true", help="print numbers, draw nothing")
    parser.add_argument("--out", type=Path, default=PICTURE, help="SVG file to write")
    options = parser.parse_args()
    graph = read_imports()
    if options.count:
        print(count(graph))
        return
    options.out.write_text(picture(graph), "utf-8", newline="\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
