"""Damages small slides in seeded ways and opens them in child processes under limits.

Run a long campaign with, for example: python -m tests.support.mutants 10000; a second number
is the first mutant, and a word limits the campaign to bases whose name holds it.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import open_slide
from tests.support import slides as factory
from tests.support.paths import ROOT

MEMORY = 3 << 30
SECONDS = 30
"""After so long one mutant counts as a hang."""
KINDS = ("truncated", "flipped anywhere", "flipped in the directories", "zeroed")


def write_bases(folder: Path) -> list[Path]:
    """Write the sound slides, one of each reader and codec that matters; return them sorted."""
    levels = factory.pyramid(factory.tissue(260, 300), 2)
    jpeg = {"compression": "jpeg", "tile": (64, 64)}
    factory.write_tiff(folder / "jpeg.svs", levels, **jpeg)
    factory.write_tiff(folder / "lzw.tif", levels, compression="lzw", tile=(64, 64))
    factory.write_tiff(folder / "big.tif", levels, bigtiff=True)
    factory.write_tiff(folder / "j2k.tif", levels, compression="jpeg2000", tile=(64, 64))
    factory.write_tiff(folder / "strips.tif", levels[:1], tile=None, rowsperstrip=16)
    factory.write_svs(folder / "aperio.svs", levels)
    factory.write_ome_tiff(folder / "image.ome.tif", levels)
    factory.write_picture(folder / "picture.png", levels[0])
    factory.write_picture(folder / "picture.jpg", levels[0])
    factory.write_picture(folder / "picture.webp", levels[0])
    factory.write_ome_zarr(folder / "four.zarr", levels)
    factory.write_ome_zarr(folder / "five.zarr", levels, version="0.5")
    shared = Path(os.environ.get("PLIMSEG_SHARED_DATA") or ROOT.parent / "shared" / "data") / "wsi"
    if shared.is_dir():
        shutil.copy(shared / "fluo_DAPI.ndpi", folder / "real.ndpi")
        shutil.copy(shared / "CMU-1-Small-Region.svs", folder / "real.svs")
        volume = max(
            (shared / "CMU-1-Small-Region-dicom").iterdir(), key=lambda p: p.stat().st_size
        )
        shutil.copy(volume, folder / "real.dcm")
    return sorted(folder.iterdir())


@dataclass(frozen=True)
class Mutant:
    """One damaged slide: `index` alone determines it.

    Parameters
    ----------
    index : int
        Which of the campaign; also the seed.
    base : Path
        The sound slide.
    """

    index: int
    base: Path

    @property
    def kind(self) -> str:
        return KINDS[np.random.default_rng(self.index).integers(len(KINDS))]

    def write(self, folder: Path) -> Path:
        """Write the damaged slide below `folder` and return its path."""
        rng = np.random.default_rng([self.index, 1])
        path = folder / self.base.name
        if self.base.is_dir():
            shutil.copytree(self.base, path)
            files = sorted(p for p in path.rglob("*") if p.is_file())
            metadata = [p for p in files if p.name.startswith(".z") or p.name == "zarr.json"]
            target = (metadata if rng.random() < 0.5 else files)[
                rng.integers(10_000) % len(metadata)
            ]
        else:
            target = path
            shutil.copy(self.base, path)
        content = bytearray(target.read_bytes())
        target.write_bytes(self._damaged(content, rng))
        return path

    def _damaged(self, content: bytearray, rng: np.random.Generator) -> bytes:
        if self.kind == "truncated":
            return bytes(content[: rng.integers(len(content))])
        if self.kind == "zeroed":
            start = int(rng.integers(len(content)))
            end = min(start + int(rng.choice([16, 256, 4096])), len(content))
            content[start:end] = bytes(end - start)
            return bytes(content)
        places = np.arange(len(content))
        count = int(rng.integers(1, 65))
        if self.kind == "flipped in the directories":
            count = int(rng.integers(1, 5))
            places = directory_bytes(self.base) if self.base.is_file() else places
            if not len(places):  # not a TIFF: its header
                places = np.arange(min(512, len(content)))
        for at in rng.choice(places, min(count, len(places)), replace=False):
            content[at] ^= 1 << rng.integers(8)
        return bytes(content)


def directory_bytes(path: Path) -> np.ndarray:
    """Return the positions of the bytes of all TIFF directories of a file; none for others."""
    try:
        with tifffile.TiffFile(path) as tif:
            pages = [p for page in tif.pages for p in (page, *(page.pages or ()))]
            spans = [np.arange(8)]
            for page in pages:
                size = (20 if tif.is_bigtiff else 12) * len(page.tags) + 16
                spans.append(np.arange(page.offset, page.offset + size))
            spans += [
                np.arange(t.valueoffset, t.valueoffset + min(t.valuebytecount, 256))
                for page in pages
                for t in page.tags
            ]
    except tifffile.TiffFileError:
        return np.zeros(0, int)
    places = np.unique(np.concatenate(spans))
    return places[places < path.stat().st_size]


def read_all(path: Path) -> str:
    """Open and read a slide as the program would; return what came of it."""
    try:
        with open_slide(path) as slide:
            slide.thumbnail(64)
            for level, lv in enumerate(slide.levels):
                height, width = (min(side, 512) for side in lv.shape)
                slide.read_level(level, lv.shape[0] - height, lv.shape[1] - width, height, width)
            slide.is_brightfield  # noqa: B018 - reads pixels
    except SlideError:
        return "SlideError"
    except BaseException as error:  # noqa: BLE001 - that is what is counted
        return f"{type(error).__name__}: {error}"
    return "pixels"


def child(bases: Path, indices: list[int]) -> None:
    """Read mutants one after the other; tell of each before and after."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sound = sorted(bases.iterdir())
    for index in indices:
        mutant = Mutant(index, sound[index % len(sound)])
        with tempfile.TemporaryDirectory() as folder:
            path = mutant.write(Path(folder))
            print(json.dumps({"reading": index}), flush=True)  # noqa: T201 - the protocol
            signal.alarm(SECONDS)
            outcome = read_all(path)
            signal.alarm(0)
        print(json.dumps({"index": index, "outcome": outcome}), flush=True)  # noqa: T201


def run(bases: Path, indices: list[int]) -> dict[int, str]:
    """Return the outcome of each mutant, "death" or "hang" where its process ended."""
    outcomes: dict[int, str] = {}
    left = list(indices)
    while left:
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.mutants", "--child", str(bases)],
            input=json.dumps(left), capture_output=True, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        outcomes |= {line["index"]: line["outcome"] for line in lines if "index" in line}
        started = [line["reading"] for line in lines if "reading" in line]
        if done.returncode != 0:
            if not started or started[-1] in outcomes:
                raise RuntimeError(done.stderr[-2000:])
            outcomes[started[-1]] = "hang" if done.returncode == -14 else f"death {done.returncode}"
        left = [i for i in left if i not in outcomes]
    return outcomes


def table(outcomes: dict[int, str], bases: list[Path]) -> str:
    """Return counts of outcomes per base as text."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for index, outcome in outcomes.items():
        word = outcome if outcome in ("pixels", "SlideError") else "BAD"
        counts[bases[index % len(bases)].name][word] += 1
    rows = [f"{'base':16} {'pixels':>8} {'SlideError':>10} {'BAD':>6}"]
    for name, row in sorted(counts.items()):
        rows.append(f"{name:16} {row['pixels']:8} {row['SlideError']:10} {row['BAD']:6}")
    return "\n".join(rows)


def main() -> None:
    """Run a campaign of so many mutants."""
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), json.load(sys.stdin))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    with tempfile.TemporaryDirectory() as folder:
        bases = [base for base in write_bases(Path(folder)) if only in base.name]
        for base in set(Path(folder).iterdir()) - set(bases):
            shutil.rmtree(base) if base.is_dir() else base.unlink()
        outcomes = run(Path(folder), list(range(first, first + count)))
        bad = {i: o for i, o in outcomes.items() if o not in ("pixels", "SlideError")}
        print(table(outcomes, bases))  # noqa: T201
        for index, outcome in sorted(bad.items()):
            mutant = Mutant(index, bases[index % len(bases)])
            print(index, mutant.base.name, mutant.kind, outcome)  # noqa: T201
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
