"""Measure speed and memory against the hardware and against simple programs; prints one table.

    python benchmarks/speed.py SLIDE [--model bundled-tissue] [--rounds 3] [--only engines growth]

Every row has its goal beside it. What is compared alternates within each round, each run in a
process of its own; the table shows medians. The goals are ratios or seconds on two cores.

* reading: aligned windows, against a decoder that decodes every tile once, and OpenSlide.
* engines: a whole run with all exports, by torch and OpenVINO, and its parts: the seconds outside
  the network, the first finished tile from the start of the process and with the model loaded, peak
  memory, and the share of tissue pixels that have the same class as by torch in float32.
* naive: windows that overlap by half, read one by one with OpenSlide, in batches of 8, by torch.
  It runs on a part of the windows and is scaled.
* tiatoolbox: its segmentor with the same network, by torch in float32, and its own tissue mask, in
  an environment of its own that is made at first (800 MB in the cache folder). The run only,
  without imports.
* growth: slides made of the slide itself, side by side.

A GPU is used by `--device cuda`; without one its rows say "not measured".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

BEGUN = time.perf_counter()  # of a child: the start of the process, but for Python's own

NAIVE_WINDOWS = 96
GROWTH = (1, 2, 4)
"""Copies of the slide side by side in each direction."""
PARTS = ("reading", "engines", "naive", "tiatoolbox", "growth")
TIATOOLBOX = "tiatoolbox==2.1.3"
ITS_PACKAGES = (
    "bokeh", "defusedxml", "flask", "flask-cors", "glymur", "ipywidgets", "joblib", "matplotlib",
    "numba", "opencv-python-headless", "pandas", "pydicom", "requests", "scikit-learn", "SimpleITK",
    "umap-learn", "wsidicom",
)  # fmt: skip
"""What it imports and we don't have; it declares more, and older versions of ours."""


def show(what: str, measured: str, goal: str = "") -> None:
    print(f"{what:<66}{measured:>16}   {goal}", flush=True)


# -- in a process of its own


def run_once(
    slide: Path, model: str, precision: str, device: str, folder: Path, mpp: float | None
) -> dict[str, Any]:
    """Segment and export a slide as the program does, and return what it took."""
    import resource

    from napari_plimseg.inference import Progress, RunSettings, SegmentationJob, SlideDone
    from napari_plimseg.inference import computation as choice
    from napari_plimseg.models import acceleration
    from napari_plimseg.results import FORMATS

    spent = {"network": 0.0, "windows": 0}
    compute = acceleration.Network.__call__

    def timed(network: Any, windows: Any) -> Any:
        begun = time.perf_counter()
        found = compute(network, windows)
        spent["network"] += time.perf_counter() - begun
        spent["windows"] += len(windows)
        return found

    acceleration.Network.__call__ = timed  # type: ignore[method-assign]
    if precision == "torch":
        choice.engines_for = lambda precision: []  # type: ignore[assignment]
    settings = RunSettings(precision="auto" if precision == "torch" else precision, device=device)
    job = SegmentationJob(
        model, settings=settings, folder=folder, formats=tuple(FORMATS), resume=False
    ).loaded()
    loaded, first, done = time.perf_counter(), None, None
    for step in job.steps(slide, precision, mpp=mpp):
        if isinstance(step, Progress) and step.tiles_done and first is None:
            first = time.perf_counter()
        if isinstance(step, SlideDone):
            done = step
    assert done is not None
    assert first is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "run": done.seconds,
        "first": first - loaded,
        "first_of_all": first - BEGUN,
        "network": spent["network"],
        "windows": spent["windows"],
        "peak_mb": peak / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        "store": str(done.store),
        "computation": str(done.info.computation or "torch in float32"),
    }


def run_naive(slide: Path, model: str, count: int) -> dict[str, Any]:
    """Read and compute windows that overlap by half, and return the seconds for all of them."""
    import numpy as np
    import openslide
    import torch

    from napari_plimseg.models import load_model

    network, file = load_model(model), openslide.OpenSlide(slide)
    side = network.window  # type: ignore[attr-defined]
    mpp = float(file.properties.get(openslide.PROPERTY_NAME_MPP_X) or 0.25)
    level = file.get_best_level_for_downsample(network.mpp / mpp * 1.01)
    scale = file.level_downsamples[level]
    wide, high = file.level_dimensions[level]
    places = [(x, y) for y in range(0, high, side // 2) for x in range(0, wide, side // 2)]
    chosen = places[:: max(1, len(places) // count)][:count]
    begun = time.perf_counter()
    for first in range(0, len(chosen), 8):
        corners = [(int(x * scale), int(y * scale)) for x, y in chosen[first : first + 8]]
        pictures = [file.read_region(at, level, (side, side)).convert("RGB") for at in corners]
        batch = np.stack([np.asarray(picture) for picture in pictures])
        network.probabilities(torch.from_numpy(batch)).argmax(1)
    seconds = time.perf_counter() - begun
    return {"run": seconds * len(places) / len(chosen), "windows": len(places)}


def child(*arguments: str) -> dict[str, Any]:
    """Run a function above in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- parts of the table


def reading(slide: Path, rounds: int) -> None:
    import readers

    from napari_plimseg.slides import open_slide

    with open_slide(slide) as opened:
        places = readers.windows(opened.shape, 512, 0)
    for threads in (1, 2):
        rates: dict[str, list[float]] = {"ours": [], "bare decoder": [], "openslide": []}
        for _ in range(rounds):
            for name, found in rates.items():
                found.append(readers.measure(slide, name, places, 512, threads))
        ours, bare, other = (statistics.median(found) for found in rates.values())
        show(f"reading, {threads} thread(s): MP/s", f"{ours:.0f}")
        show("  of a bare decoder", f"{ours / bare:.2f}", "0.9")
        show("  of OpenSlide", f"{ours / other:.1f}", "5" if threads == 1 else "")


def engines(
    slide: Path, model: str, device: str, rounds: int, mpp: str
) -> dict[str, list[dict[str, Any]]]:
    import numpy as np
    import torch

    from napari_plimseg.models import has_bfloat16
    from napari_plimseg.results import MaskStore

    if device == "cuda" and not torch.cuda.is_available():
        show("GPU", "not measured")
        return {}
    named = ["torch", "float32"] if device == "cpu" else ["torch"]
    if device == "cpu" and has_bfloat16():
        named += ["bfloat16", "auto"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in named}
    with tempfile.TemporaryDirectory() as folder:
        for name in named:  # converted networks and files are in their caches then
            child("run", str(slide), model, name, device, folder, mpp)
        for _ in range(rounds):
            for name in named:
                runs[name].append(child("run", str(slide), model, name, device, folder, mpp))
        masks = {}
        for name, found in runs.items():
            with MaskStore.open(Path(found[-1]["store"])) as store:
                masks[name] = store.read_classes()
                tissue = np.isin(masks[name], store.info.classes.tissue_ids)
    for name, found in runs.items():
        middle = {
            key: statistics.median(run[key] for run in found)
            for key in ("run", "first", "first_of_all", "network", "peak_mb")
        }
        goal = {"float32": "9", "bfloat16": "6"}.get(name, "")
        show(
            f"{found[0]['computation']} ({name}): run and exports, s", f"{middle['run']:.2f}", goal
        )
        show("  outside the network, s", f"{middle['run'] - middle['network']:.2f}", "1.5")
        show("  first tile, model loaded, s", f"{middle['first']:.2f}", "0.8")
        show("  first tile, from the start of the process, s", f"{middle['first_of_all']:.2f}", "3")
        show("  peak memory, MB", f"{middle['peak_mb']:.0f}", "1,500")
        show("  windows computed", f"{found[0]['windows']}")
        same = 100 * float(np.mean((masks[name] == masks["torch"])[tissue]))
        show("  same class as by torch, % of tissue", f"{same:.3f}", "99.5")
    return runs


def its_environment() -> Path:
    """Return the Python of TIAToolbox's environment, which has our packages too."""
    import sysconfig
    import venv

    from napari_plimseg.files import user_cache_dir

    folder = user_cache_dir() / "benchmarks" / "tiatoolbox"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        inside = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        (inside / "site-packages" / "ours.pth").write_text(sysconfig.get_path("purelib"))
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "--no-deps", TIATOOLBOX], check=True)
        subprocess.run([*install, *ITS_PACKAGES], check=True)
        ready.touch()
    return python


def tiatoolbox(slide: Path, model: str, rounds: int) -> list[float]:
    """Return the seconds of its runs."""
    here, python = Path(__file__).parent, its_environment()
    source = os.pathsep.join([str(here.parent / "src"), os.environ.get("PYTHONPATH", "")])
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [str(python), str(here / "tiatoolbox_run.py"), str(slide), model, folder]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True,
                env=os.environ | {"PYTHONPATH": source},
            )  # fmt: skip
            seconds.append(float(json.loads(done.stdout.splitlines()[-1])["run"]))
    return seconds


def growth(slide: Path, model: str, device: str, mpp: str) -> None:
    import pyvips

    for copies in GROWTH:
        with tempfile.TemporaryDirectory() as folder:
            large = slide
            if copies > 1:
                image = pyvips.Image.new_from_file(str(slide)).replicate(copies, copies)
                large = Path(folder) / "large.tif"
                image.tiffsave(
                    str(large), tile=True, tile_width=256, tile_height=256, pyramid=True,
                    compression="jpeg", Q=80, bigtiff=True, subifd=False,
                )  # fmt: skip
            size = pyvips.Image.new_from_file(str(large))
            found = child("run", str(large), model, "auto", device, folder, mpp)
            pixels = size.width * size.height / 1e6
            show(f"{pixels:,.0f} MP: ms per MP", f"{1000 * found['run'] / pixels:.1f}")
            show("  peak memory, MB", f"{found['peak_mb']:.0f}", "flat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", default="bundled-tissue")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mpp", default="", help="um per pixel, of a slide that does not say")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    options = parser.parse_args()
    packages = ("torch", "openvino", "imagecodecs", "tifffile", "openslide-python")
    print(platform.processor() or platform.machine(), os.cpu_count(), "cores, Python",
          platform.python_version())  # fmt: skip
    print(", ".join(f"{name} {version(name)}" for name in packages))
    print(f"load {os.getloadavg()[0]:.1f}; {options.slide.name}; {options.rounds} rounds")
    print(f"{'':<66}{'measured':>16}   goal")
    runs: dict[str, list[dict[str, Any]]] = {}
    if "reading" in options.only:
        reading(options.slide, options.rounds)
    if "engines" in options.only:
        runs = engines(options.slide, options.model, options.device, options.rounds, options.mpp)
    if "naive" in options.only:
        naive = child("naive", str(options.slide), options.model, str(NAIVE_WINDOWS))
        show(f"naive loop, {naive['windows']} windows, s", f"{naive['run']:.1f}")
        for name, found in runs.items():
            faster = naive["run"] / statistics.median(run["run"] for run in found)
            show(f"  times {name} is faster", f"{faster:.1f}", "10" if name == "auto" else "")
    if "tiatoolbox" in options.only:
        seconds = tiatoolbox(options.slide, options.model, options.rounds)
        show(f"TIAToolbox, {TIATOOLBOX}, s", f"{statistics.median(seconds):.1f}")
        for name, found in runs.items():
            faster = statistics.median(seconds) / statistics.median(run["run"] for run in found)
            show(f"  times {name} is faster", f"{faster:.1f}", "3" if name == "auto" else "")
    if "growth" in options.only:
        growth(options.slide, options.model, options.device, options.mpp)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        what, path, model, *rest = sys.argv[2:]
        result = (
            run_once(
                Path(path), model, rest[0], rest[1], Path(rest[2]), float(rest[3] or 0) or None
            )
            if what == "run"
            else run_naive(Path(path), model, int(rest[0]))
        )
        print(json.dumps(result))
    else:
        main()
