"""Nothing of a patient, a user or a folder gets into what is passed on: `make privacy`.

Every field of every slide, every folder, the user's and the computer's name are canaries. All
programs run as processes of their own; then every byte of every output is searched, unpacked and
decoded. Connections and name look-ups are counted in every process, Python or not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from tests.campaigns.canaries import (
    GREEN,
    Leak,
    canaries_in,
    canary,
    leaks_in,
    plain_canary,
    write_slides,
)
from tests.campaigns.report import WITHOUT, Guard, Settings, exit_with, main
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tests.campaigns.report import Report

AUDIT = Path(__file__).with_name("audit")
PLACES = {"folder", "user", "host", "results"}
"""Canaries of folders and names; the others come from slides."""
OF_THE_USER = ("recipe.yaml", "last.ckpt", "previous.ckpt")
"""Files of a training that hold its recipe with the paths, or it could not resume."""
COMMAND = "python -m tests.campaigns.privacy --only"


@dataclass
class Scene:
    """A user's folders, full of canaries, and the processes that work in them.

    Parameters
    ----------
    root : Path
    """

    root: Path
    runs: list[tuple[str, int, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.private = self.root / canary("folder") / "slides"
        self.home = self.root / f"home-{plain_canary('user')}"
        self.out = self.root / plain_canary("results") / "out"
        self.log = self.root / "network.log"
        self.traces = self.root / "traces"
        for folder in (self.home, self.out, self.traces, self.home / "tmp"):
            folder.mkdir(parents=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process of this user."""
        user = plain_canary("user")
        names = {"USER": user, "LOGNAME": user, "USERNAME": user, "HOSTNAME": plain_canary("host")}
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("PLIMSEG_")},
            **names,
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "PLIMSEG_DATA_DIR": str(self.home / "data"),
            "PLIMSEG_CACHE_DIR": str(self.home / "cache"),
            "PLIMSEG_AUDIT_LOG": str(self.log),
            "PLIMSEG_AUDIT_HOST": plain_canary("host"),
            "PYTHONPATH": os.pathsep.join(
                str(p) for p in (AUDIT, ROOT / "src", ROOT / "training", ROOT)
            ),
            "OMP_NUM_THREADS": "1",
            **{key: os.environ[key] for key in (WITHOUT,) if key in os.environ},
        }

    def run(self, name: str, command: Sequence[str | Path], *, patience: float = 600) -> int:
        """Run a program as this user, its connections traced; return the exit code."""
        traced = []
        if strace := shutil.which("strace"):
            trace = self.traces / f"{len(self.runs)}.trace"
            calls = "trace=connect,sendto,sendmsg,sendmmsg,bind"
            traced = [strace, "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(trace)]
        done = subprocess.run(
            [*traced, *map(str, command)],
            cwd=self.private.parent,
            env=self.environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
        )
        self.runs.append((name, done.returncode, done.stdout, done.stderr))
        return done.returncode

    def plimseg(self, *arguments: str | Path) -> int:
        """Run the command line."""
        return self.run(
            f"plimseg {arguments[0]}", [sys.executable, "-m", "napari_plimseg.cli", *arguments]
        )

    def connections(self) -> list[str]:
        """Return every connection and look-up: what Python noted, and what the system saw."""
        found = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        for path in sorted(self.traces.iterdir()):
            for line in path.read_text("utf-8", "replace").splitlines():
                # a service that answers for names; users' names come from it too, if it is there
                asks = re.search(r"AF_UNIX.*(nscd|resolve|avahi)", line)
                if "AF_INET" in line or (asks and "ENOENT" not in line):
                    found.append(line.strip())
        return found


# -- the user's day


def prepare(scene: Scene, *, short: bool) -> dict[str, Any]:
    """Write slides, class lists, prompts, a recipe and a model into folders named for people."""
    from PIL import Image, PngImagePlugin

    from napari_plimseg.tissue import COLORECTAL
    from tests.support.stages import CLASSES, halves, named_tissue, recipe, tissue

    slides = write_slides(scene.private, short=short)
    classes = scene.private.parent / "classes.yaml"
    COLORECTAL.to_yaml(classes)
    prompts = scene.private.parent / "prompts.yaml"
    prompts.write_text("stroma: [collagen, fibroblasts]\n", "utf-8")
    images = named_tissue(scene.private.parent / "images", (32, 32))
    about = PngImagePlugin.PngInfo()
    about.add_text("Patient", plain_canary("imagetext"))
    for path in images.glob("*.png"):
        Image.open(path).copy().save(path, pnginfo=about)
    chosen = scene.private.parent / "recipe.yaml"
    extra = ("distill.student=small", "distill.epochs=1", "distill.crop=32")
    recipe(images, *(() if short else extra)).to_yaml(chosen)
    two = scene.private.parent / "two.yaml"
    CLASSES.to_yaml(two)
    truth = scene.private.parent / "truth.png"
    ids = np.ones((520, 600), np.uint8)
    ids[:, 300:] = 2
    Image.fromarray(ids).save(truth)
    measured = scene.private.parent / "measured"
    measured.mkdir()
    kinds = halves((64, 64), (1, 1))
    for number in range(2):
        Image.fromarray(tissue(kinds, 90 + number)).save(measured / f"{number}.png", pnginfo=about)
        Image.fromarray(kinds + 1).save(measured / f"{number}-truth.png")
    rows = [f"{number}.png,1,1,{number}-truth.png" for number in range(2)]
    (measured / "tags.csv").write_text("\n".join(["file,tumour,fat,truth", *rows]) + "\n")
    return {
        "slides": slides, "classes": classes, "prompts": prompts, "recipe": chosen,
        "two": two, "truth": truth, "measured": measured,
    }  # fmt: skip


def work(scene: Scene, *, short: bool) -> None:
    """Do everything that writes, as processes."""
    things = prepare(scene, short=short)
    slides: list[Path] = things["slides"]
    run = scene.out / "run"
    options = ("--tile-size", "256", "--device", "cpu", "--threads", "1", "--mpp", "0.5")
    results = scene.out / "results"
    if not short:
        scene.plimseg("info", *slides)
    scene.plimseg(
        "segment", *slides, "--out", results, "--classes", things["classes"], "--prompts",
        things["prompts"], "--format", "all", *options,
    )  # fmt: skip
    scene.run(
        "session",
        [sys.executable, "-m", "tests.campaigns.privacy", "--session", results, slides[0]],
    )
    first = results / f"{slides[0].name.split('.')[0]}.plimseg"
    scene.plimseg("export", first, "--slide", slides[0], "--out", scene.out / "again")
    scene.plimseg("objects", first, "--slide", slides[0], "--out", scene.out / "objects")
    scene.plimseg("train", things["recipe"], "--out", run, "--no-list")
    model = scene.private.parent / "glands.safetensors"
    if (run / "model.safetensors").exists():
        shutil.copy(run / "model.safetensors", model)
    scene.plimseg("models", "import", model)
    if not short:
        scene.plimseg("models")
        scene.plimseg("scan", things["measured"], "--mpp", "0.5")
        scene.plimseg(
            "cut", slides[0], things["truth"], "--out", scene.out / "cut", "--classes",
            things["classes"], "--patch", "128",
        )  # fmt: skip
        scene.plimseg(
            "evaluate", run / "model.safetensors", things["measured"], "--mpp", "0.5",
            "--classes", things["two"], "--out",
            scene.out / "scores.json", "--per-image", scene.out / "scores.csv",
        )  # fmt: skip
        scene.plimseg("segment", slides[0], "--model", run / "model.safetensors", "--out",
                      scene.out / "trained", *options)  # fmt: skip
        if os.environ.get("DISPLAY"):
            scene.run(
                "docks", [sys.executable, "-m", "tests.campaigns.privacy", "--docks", slides[1]]
            )
    mistakes(scene, things)


def mistakes(scene: Scene, things: dict[str, Any]) -> None:
    """Make mistakes, since errors hold names of files."""
    slides: list[Path] = things["slides"]
    folder = scene.private
    damaged = folder / "damaged.svs"
    damaged.write_bytes(slides[1].read_bytes()[:3000])
    words = folder / "words.yaml"
    words.write_text("[", "utf-8")
    for arguments in (
        ("segment", folder / "missing.svs"),
        ("segment", damaged),
        ("segment", slides[0], "--model", words),
        ("segment", slides[0], "--classes", words),
        ("segment", slides[0], "--out", slides[0] / "below"),
        ("export", folder),
        ("models", "import", damaged),
        ("train", words, "--out", scene.out / "bad"),
    )[:: 2 if len(slides) < 3 else 1]:
        command = [sys.executable, "-m", "napari_plimseg.cli", *map(str, arguments)]
        scene.run(f"mistake: {arguments[0]}", command)


def session(results: Path, slide_path: Path) -> None:
    """Correct, review, list and report in one process, as the docks do."""
    from napari_plimseg._widgets.common.error_report import error_report
    from napari_plimseg.errors import PlimsegError
    from napari_plimseg.inference import Cohort
    from napari_plimseg.results import (
        Corrections,
        MaskStore,
        ReviewedRegion,
        ReviewLog,
        corrected,
        export_all,
    )
    from napari_plimseg.settings import DockSettings, remember, save_settings
    from napari_plimseg.slides import open_slide

    stem = slide_path.name.split(".")[0]
    with MaskStore.open(results / f"{stem}.plimseg") as store, open_slide(slide_path) as slide:
        ReviewLog(store).add(ReviewedRegion(0, 0, 50, 50))
        corrections = Corrections.open(results, store.info)
        corrections.write(10, 10, np.full((30, 30), 2, np.uint8))
        corrections.flush_and_release()
        mask, _ = corrected(store.read_classes(), store.info, results)
        export_all(results.parent / "corrected", stem, mask, store.info, slide)
    with Cohort.open(results) as cohort:
        cohort.add(slide_path, mpp=0.5)
        cohort.add(slide_path.with_name("missing.svs"), mpp=0.5)
    save_settings(DockSettings())
    remember("choice", 1)
    reports = results.parent / "reports"
    reports.mkdir()
    for number, path in enumerate((slide_path.with_name("damaged.svs"), slide_path.parent)):
        try:
            open_slide(path)
        except PlimsegError as error:
            (reports / f"{number}.txt").write_text(error_report(str(error), error), "utf-8")
    try:
        Path(slide_path.parent / "none" / "a.txt").read_text()
    except OSError as error:
        (reports / "system.txt").write_text(error_report(str(error), error), "utf-8")


def docks(slide_path: Path) -> None:
    """Open the slide and every dock in napari, and close it again."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_plimseg._reader import read_slides

    viewer = napari.Viewer(show=True)
    for data, facts, _ in read_slides(str(slide_path)):
        viewer.add_image(data, **facts)
    from npe2 import PluginManager

    for widget in PluginManager.instance().iter_widgets():
        if widget.plugin_name == "napari-plimseg":
            viewer.window.add_plugin_dock_widget("napari-plimseg", widget.display_name)
    QTimer.singleShot(4000, viewer.close)
    napari.run()


# -- what must not be found


def campaign(settings: Settings, report: Report) -> None:
    """Work as a user named for a canary, then search everything."""
    with tempfile.TemporaryDirectory(prefix="plimseg-privacy-") as name:
        scene = Scene(Path(name).resolve())
        begin = time.monotonic()
        work(scene, short=settings.short)
        _programs(scene, report, time.monotonic() - begin)
        _outputs(scene, report)
        _messages(scene, report)
        _network(scene, report)


def _programs(scene: Scene, report: Report, seconds: float) -> None:
    bad = [
        (COMMAND, f"{name} ended with {code}: {(out + errors)[-1500:]}")
        for name, code, out, errors in scene.runs
        if (code != 0) != name.startswith("mistake")
    ]
    report.add("programs do their work", len(scene.runs) - len(bad), bad, seconds=seconds)


def _outputs(scene: Scene, report: Report) -> None:
    """Outputs hold nothing; what is kept for the user holds nothing of slides."""
    begin = time.monotonic()
    count, leaks = leaks_in(scene.out)
    names = {leak.file for leak in leaks}

    def is_kept(leak: Leak) -> bool:
        return Path(leak.file).name in OF_THE_USER and leak.field in PLACES

    bad = [(COMMAND, f"{leak.file} holds {leak.field}") for leak in leaks if not is_kept(leak)]
    report.add(
        "results, exports, stores, models, reports", max(0, count - len(names)), bad,
        seconds=time.monotonic() - begin, note=f"{count} files",
    )  # fmt: skip
    begin = time.monotonic()
    count, leaks = leaks_in(scene.home)
    bad = [
        (COMMAND, f"{leak.file} holds {leak.field}")
        for leak in leaks
        if leak.field not in PLACES and not leak.field.startswith("the name")
    ]
    report.add(
        "settings, models and caches of the user", max(0, count - len(bad)), bad,
        seconds=time.monotonic() - begin, note=f"{count} files",
    )  # fmt: skip


def _messages(scene: Scene, report: Report) -> None:
    """Errors name files only, and nothing that is printed comes from within a slide."""
    passed, bad = 0, []
    for name, _, out, errors in scene.runs:
        found = canaries_in(out.encode()) | canaries_in(errors.encode())
        wrong = found if name.startswith("mistake") else found - PLACES
        if wrong:
            bad.append(
                (COMMAND, f"{name} prints {', '.join(sorted(wrong))}: {(out + errors)[:600]}")
            )
        else:
            passed += 1
    report.add("messages and errors", passed, bad)


def _network(scene: Scene, report: Report) -> None:
    found = scene.connections()
    how = "Python and system calls" if shutil.which("strace") else "Python only: no strace here"
    report.add(
        "processes without connections and look-ups", max(0, len(scene.runs) - len(found)),
        [(COMMAND, line) for line in found[:20]], note=f"{len(found)} of them, {how}",
    )  # fmt: skip


# -- guards


def _full_names() -> AbstractContextManager[object]:
    """Let a mask be described with the whole path of its slide."""
    from napari_plimseg.results import MaskInfo

    write = MaskInfo.to_dict

    def with_folder(self: Any) -> dict[str, Any]:
        return {**write(self), "folder": str(Path.cwd())}

    return mock.patch.object(MaskInfo, "to_dict", with_folder)


def _all_facts() -> AbstractContextManager[object]:
    """Let the description of the slide into the label TIFF."""
    from napari_plimseg.results.export import label_tiff

    write = label_tiff.mask_ome_xml

    def with_description(info: Any) -> str:
        import tifffile

        found = [p for p in Path.cwd().rglob("case-*") if p.suffix in (".tif", ".svs")]
        with tifffile.TiffFile(found[0]) as tif:
            text = tif.pages[0].description
        return write(info).replace("Research use only", f"{text} Research use only")

    return mock.patch.object(label_tiff, "mask_ome_xml", with_description)


def _label_shown() -> AbstractContextManager[object]:
    """Let overlays show the slide's label in a corner."""
    from napari_plimseg.results.export import overlay

    blended = overlay._blended

    def with_label(*args: Any) -> Any:
        picture = blended(*args).copy()
        picture[:30, :30] = GREEN
        return picture

    return mock.patch.object(overlay, "_blended", with_label)


def _whole_paths() -> AbstractContextManager[object]:
    """Let errors name folders."""
    from napari_plimseg.errors import PlimsegError

    init = PlimsegError.__init__

    def told(self: Any, problem: str, *, path: Any = None, remedy: Any = None) -> None:
        init(self, f"{path}: {problem}", path=path, remedy=remedy)

    return mock.patch.object(PlimsegError, "__init__", told)


def _open_report() -> AbstractContextManager[object]:
    """Let the report for developers hide nothing."""
    from napari_plimseg._widgets.common.error_report import _Hider

    return mock.patch.object(_Hider, "hide", lambda self, text: text)


def _telemetry() -> AbstractContextManager[object]:
    """Let loading a model say hello somewhere."""
    from napari_plimseg import models

    load = models.load_model

    def loud(*arguments: Any, **more: Any) -> Any:
        import socket

        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        return load(*arguments, **more)

    return mock.patch.object(models, "load_model", loud)


def _telemetry_of_openvino() -> AbstractContextManager[object]:
    """Let OpenVINO tell its maker that it is used."""
    from napari_plimseg.models import acceleration

    return mock.patch.object(acceleration, "silence_telemetry", lambda: None)


def _paths_in_list() -> AbstractContextManager[object]:
    """Let the list of slides hold whole paths."""
    from napari_plimseg.inference import cohort

    write = cohort.write_checked

    def with_folder(path: Any, content: Any) -> None:
        write(path, {**content, "folder": str(path.parent)})

    return mock.patch.object(cohort, "write_checked", with_folder)


def _paths_in_report() -> AbstractContextManager[object]:
    """Let the report of a training name its folder."""
    from plimseg_training.report import report

    write = report.page

    def with_folder(title: str, body: str) -> str:
        return write(title, f"{body}<p>{Path.cwd()}</p>")

    return mock.patch.object(report, "page", with_folder)


def _short(settings: Settings, report: Report) -> None:
    campaign(Settings(1, settings.seed, True, "", settings.processes), report)


GUARDS = (
    Guard("a mask is described by a list of facts", _full_names, _short),
    Guard("exports take nothing from the slide's texts", _all_facts, _short),
    Guard("labels and macros are not shown", _label_shown, _short),
    Guard("errors name files only", _whole_paths, _short),
    Guard("the copied report hides names", _open_report, _short),
    Guard("nothing connects", _telemetry, _short),
    Guard("OpenVINO sends nothing", _telemetry_of_openvino, _short),
    Guard("the list of slides holds no folder", _paths_in_list, _short),
    Guard("the report of a training holds no folder", _paths_in_report, _short),
)


def _child() -> bool:
    if sys.argv[1:2] == ["--session"]:
        session(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--docks"]:
        docks(Path(sys.argv[2]))
    else:
        return False
    return True


if __name__ == "__main__" and not _child():
    exit_with(main("privacy", campaign, GUARDS, count=1, short=1))
