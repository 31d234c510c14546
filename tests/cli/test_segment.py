from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_plimseg import models
from napari_plimseg.cli import main
from napari_plimseg.cli.paths import expand
from napari_plimseg.cli.segment import parse_classes, parse_region
from napari_plimseg.errors import ConfigError
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.inference import distinct_stems
from napari_plimseg.results.mask_store import MaskStore
from napari_plimseg.tissue import COLORECTAL, PRESETS
from tests.support.models import RED_GREEN, ColorModel, painted
from tests.support.slides import write_ome_zarr, write_tiff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.tissue import TissueClasses


@pytest.fixture(autouse=True)
def color_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line with a model that takes no time; the real one has tests of its own."""

    def load(name: str, classes: TissueClasses | None = None) -> ColorModel:
        assert name == "bundled"
        return ColorModel()

    monkeypatch.setattr(models, "load_model", load)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "two colours.png"
    Image.fromarray(painted(700, 900)).save(path)
    return path


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_segment_writes_everything_and_prints_the_areas(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert main(["segment", str(picture), "--mpp", "0.5", "--out", str(out), "--no-tissue"]) == 0
    printed = capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [
        "two colours.areas.csv",
        "two colours.geojson",
        "two colours.mask.ome.tif",
        "two colours.overlay.png",
        "two colours.plimseg",
    ]
    mask = MaskStore.open(out / "two colours.plimseg").read_classes()
    red_mm2 = (mask == 1).sum() * (4 * 0.5 / 1000) ** 2
    assert f"{red_mm2:.4f} mm2" in next(line for line in printed.splitlines() if " red " in line)


def test_json_lines_tell_start_progress_and_end(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["segment", str(picture), "--mpp", "0.5", "--out", str(tmp_path / "r"), "--json"]
    assert main([*arguments, "--format", "csv,geojson", "--tile-size", "256"]) == 0
    captured = capsys.readouterr()
    seen = events(captured.out)
    assert seen[0]["event"] == "start"
    progress = [e for e in seen if e["event"] == "progress"]
    assert progress[-1]["tiles_done"] == progress[-1]["tiles_total"] > 1
    assert seen[-1]["event"] == "finished"
    names = [Path(file).name for file in seen[-1]["files"]]
    assert names == ["two colours.areas.csv", "two colours.geojson"]
    percents = [a["percent_of_tissue"] for a in seen[-1]["areas"] if a["percent_of_tissue"]]
    assert sum(percents) == pytest.approx(100)


def test_a_second_run_goes_on_and_no_resume_starts_anew(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["segment", str(picture), "--mpp", "0.5", "--out", str(tmp_path), "--format", "none"]
    assert main([*base, "--region", "0,0,300,300"]) == 0
    part = MaskStore.open(tmp_path / "two colours.plimseg")
    mask = part.read_classes()
    assert (mask[:75, :75] != 0).all()
    assert (mask[75:] == 0).all()
    assert main(base) == 0
    assert MaskStore.open(tmp_path / "two colours.plimseg").done_fraction == 1
    assert main([*base, "--no-tissue"]) == 6
    assert "another model or setting" in capsys.readouterr().err
    assert main([*base, "--no-tissue", "--no-resume"]) == 0


def test_one_bad_slide_of_three_is_reported_and_skipped(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"not a slide")
    second = tmp_path / "second.png"
    second.write_bytes(picture.read_bytes())
    slides = [str(picture), str(bad), str(second)]
    code = main(["segment", *slides, "--mpp", "0.5", "--out", str(tmp_path / "r"), "--quiet"])
    assert code == 8
    errors = capsys.readouterr().err
    assert "bad.svs" in errors
    assert errors.count("plimseg:") == 1
    for stem in ("two colours", "second"):
        assert MaskStore.open(tmp_path / "r" / f"{stem}.plimseg").done_fraction == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["info", "missing.svs"], 3, "missing.svs"),
        (["segment", "missing.svs"], 3, "missing.svs"),
        (["segment", "*.nothing"], 2, "no file matches"),
        (["segment", "a.svs", "--region", "1,2,3"], 2, "not a region"),
        (["segment", "a.svs", "--region", "1,2,0,3"], 2, "is empty"),
        (["segment", "a.svs", "--format", "bmp"], 2, "no export format 'bmp'"),
        (["segment", "a.svs", "--device", "abacus"], 2, "no device 'abacus'"),
        (["segment", "a.svs", "--tile-size", "1000"], 2, "not a multiple of 32"),
        (["segment", "a.svs", "--classes", "mine.yaml"], 2, "mine.yaml"),
        *(
            (["segment", "a.svs", "--mpp", mpp], 2, f"--mpp {mpp} is not a pixel size")
            for mpp in ("0", "-1", "nan", "90")
        ),
        (["segment", "a.svs", "--out", "/proc/nowhere"], 7, "can't be written"),
        (["export", "missing.plimseg"], 7, "missing.plimseg"),
    ],
)
def test_mistakes_have_their_exit_code_and_sentence(
    arguments: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("plimseg: ")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyError("a bug"), 1, "unexpected error: 'a bug' (KeyError)."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "There is not enough memory. Close other programs"),
    ],
)
def test_what_nobody_foresaw_is_one_sentence(
    error: BaseException,
    code: int,
    says: str,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(name: str, classes: TissueClasses | None = None) -> ColorModel:
        raise error

    monkeypatch.setattr(models, "load_model", load)
    assert main(["segment", str(picture), "--mpp", "0.5"]) == code
    assert capsys.readouterr().err.startswith(f"plimseg: {says}")
    assert main(["segment", str(picture), "--mpp", "0.5", "--json"]) == code
    (event,) = events(capsys.readouterr().out)
    assert (event["event"], event["code"]) == ("error", code)
    if code == 1:
        with pytest.raises(type(error)):
            main(["segment", str(picture), "--mpp", "0.5", "--verbose"])


def test_a_slide_without_pixel_size_says_how_to_give_it(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(picture), "--out", str(tmp_path)]) == 3
    assert "--mpp" in capsys.readouterr().err


def test_export_turns_a_store_and_a_label_tiff_into_other_formats(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["segment", str(picture), "--mpp", "0.5", "--out", str(tmp_path / "r")]
    assert main([*run, "--format", "ome-tiff"]) == 0
    store, tiff = (
        tmp_path / "r" / "two colours.plimseg",
        tmp_path / "r" / "two colours.mask.ome.tif",
    )
    for source, name in ((store, "a"), (tiff, "b")):
        out = tmp_path / name
        assert main(["export", str(source), "--format", "geojson,csv", "--out", str(out)]) == 0
    for suffix in ("geojson", "areas.csv"):
        first, second = (tmp_path / n / f"two colours.{suffix}" for n in "ab")
        assert first.read_bytes() == second.read_bytes()
    assert main(["export", str(store), "--format", "png"]) == 7
    assert "--slide" in capsys.readouterr().err
    assert main(["export", str(store), "--format", "png", "--slide", str(picture)]) == 0
    assert (tmp_path / "r" / "two colours.overlay.png").exists()


def test_export_takes_corrections_along(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from napari_plimseg.results.corrections.corrections import Corrections
    from napari_plimseg.results.export.label_tiff import read_label_tiff
    from napari_plimseg.results.mask_store import MaskStore

    run = ["segment", str(picture), "--mpp", "0.5", "--out", str(tmp_path)]
    assert main([*run, "--format", "csv"]) == 0
    path = tmp_path / "two colours.plimseg"
    with MaskStore.open(path) as store:
        info, model = store.info, store.read_classes()
    painted = 1 + model[:3, :3] % len(info.classes)
    corrections = Corrections.open(tmp_path, info)
    corrections.write(0, 0, painted)
    corrections.flush_and_release()
    capsys.readouterr()
    for name, wanted in (("--corrections", painted), ("--no-corrections", model[:3, :3])):
        out = tmp_path / name
        assert main(["export", str(path), "--format", "ome-tiff", "--out", str(out), name]) == 0
        mask, _ = read_label_tiff(out / "two colours.mask.ome.tif")
        found = np.asarray(mask[:])
        np.testing.assert_array_equal(found[:3, :3], wanted)
        np.testing.assert_array_equal(found[3:], model[3:])
        assert ("with corrections: 9 pixels" in capsys.readouterr().out) == (wanted is painted)


def test_objects_are_what_a_person_painted(
    sample_path: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from napari_plimseg.results.corrections.corrections import Corrections
    from napari_plimseg.results.mask_store import MaskStore

    run = ["segment", str(sample_path), "--region", "0,0,600,600", "--out", str(tmp_path)]
    assert main([*run, "--format", "csv"]) == 0
    path, out = tmp_path / f"{sample_path.stem}.plimseg", tmp_path / "objects"
    asked = ["objects", str(path), "--slide", str(sample_path), "--out", str(out)]
    assert main(asked) == 7
    assert "no object in it is corrected" in capsys.readouterr().err
    with MaskStore.open(path) as store:
        corrections = Corrections.open(tmp_path, store.info)
    corrections.write(20, 20, np.full((24, 30), 1, np.uint8))
    corrections.flush_and_release()
    assert main(asked) == 0
    assert "1 corrected object(s) in 1 field(s)" in capsys.readouterr().out
    assert len((out / "tags.csv").read_text("utf-8").splitlines()) == 2
    asked[3] = str(picture)
    assert main(asked) == 7
    assert "the mask belongs to" in capsys.readouterr().err


def test_info_prints_what_a_slide_is(sample_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(sample_path), "--json"]) == 0
    (facts,) = events(capsys.readouterr().out)
    assert (facts["width"], facts["height"], facts["mpp"]) == (2220, 2967, 0.499)
    assert main(["info", str(sample_path)]) == 0
    assert "1.11 x 1.48 mm" in capsys.readouterr().out


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listed = events(capsys.readouterr().out)
    assert listed[0]["name"] == "bundled"
    assert listed[0]["classes"] == list(COLORECTAL.names)
    assert main(["models"]) == 0
    assert "bundled" in capsys.readouterr().out


def test_names_of_results_are_flat_and_distinct(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "x.svs", tmp_path / "b" / "x.svs", tmp_path / "y.ome.tif"]
    assert distinct_stems(paths) == ["x-a-svs", "x-b-svs", "y"]


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (("p1/HE/x.svs", "p2/HE/x.svs"), ("x-p1-HE-svs", "x-p2-HE-svs")),
        (("p1/HE/x.svs", "p2/HE/x.svs", "q/x.svs"), ("x-p1-HE-svs", "x-p2-HE-svs", "x-q-svs")),
        (("q/x.svs", "q/x.tif", "q/x.ome.tif"), ("x-q-svs", "x-q-tif", "x-q-ome.tif")),
        (("q/x.ome.1.tif", "q/x.ome.2.tif"), ("x.ome.1", "x.ome.2")),
        (("q/X.svs", "r/x.svs"), ("X-q-svs", "x-r-svs")),
        (("q/1.2.840.1", "q/1.2.840.2"), ("1.2.840-q-1", "1.2.840-q-2")),
        (("a/x.svs", "b/x.svs", "c/x-a-svs.tif"), ("", "x-b-svs", "-c-tif")),
    ],
)
def test_names_of_results_never_clash(
    names: Sequence[str], stems: Sequence[str], tmp_path: Path
) -> None:
    found = distinct_stems([tmp_path / name for name in names])
    assert len({stem.casefold() for stem in found}) == len(names)
    for stem, expected in zip(found, stems, strict=True):
        assert stem == expected or stem.endswith(expected)


def colored(path: Path, color: tuple[int, int, int], mpp: float = 0.5) -> Path:
    """Write a slide of one color and of a pixel size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    per_cm = 10_000 / mpp
    return write_tiff(
        path,
        [np.full((256, 256, 3), color, np.uint8)],
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )


@pytest.mark.parametrize("flags", [[], ["--no-resume"]], ids=str)
@pytest.mark.parametrize("together", [True, False])
def test_slides_of_one_name_have_their_own_results(
    flags: list[str], together: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red = colored(tmp_path / "p1" / "HE" / "x.tif", (200, 60, 120))
    green = colored(tmp_path / "p2" / "HE" / "x.tif", (60, 200, 120))
    out = tmp_path / "o"
    always = ["--out", str(out), "--format", "csv", "--no-tissue", *flags]
    for _ in range(2):  # the second time finds the results of the first
        calls = [[red, green]] if together else [[red], [green], [red]]
        for slides in calls:
            assert main(["segment", *map(str, slides), *always]) == 0
    assert len(list(out.glob("*.csv"))) == 2
    found = {}
    for path in out.glob("*.plimseg"):
        with MaskStore.open(path) as store:
            mask = store.read_classes()
            found[store.info.slide_fingerprint] = int(np.bincount(mask.ravel()).argmax())
    assert found == {fingerprint(red): 1, fingerprint(green): 2}
    if not together:
        assert "is the result of another slide" in capsys.readouterr().out


def test_a_folder_stands_for_the_slides_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    colored(folder / "a.tif", (200, 60, 120))
    colored(folder / "more" / "B.TIF", (60, 200, 120))
    (folder / "notes.txt").write_text("no slide")
    out = folder / "out"
    for _ in range(2):  # what the first run wrote is no slide of the second
        arguments = ["segment", str(folder), str(folder / "a.tif"), "--out", str(out), "--quiet"]
        assert main([*arguments, "--format", "all"]) == 0
    assert sorted(p.name for p in out.glob("*.plimseg")) == ["B.plimseg", "a.plimseg"]
    capsys.readouterr()
    assert main(["info", str(folder), "--json"]) == 0
    assert [e["slide"] for e in events(capsys.readouterr().out)] == ["a.tif", "B.TIF"]


def test_what_only_has_the_name_of_a_slide_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colored(tmp_path / "in" / "a.tif", (200, 60, 120))
    (tmp_path / "in" / "b.svs").write_bytes(b"half a copy")
    arguments = ["segment", str(tmp_path / "in"), "--out", str(tmp_path / "o"), "--format", "none"]
    assert main(arguments) == 8
    assert "b.svs" in capsys.readouterr().err
    assert MaskStore.open(tmp_path / "o" / "a.plimseg").done_fraction == 1


def test_a_folder_without_slides_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert main(["segment", str(tmp_path / "in"), "--out", str(tmp_path / "o")]) == 2
    assert "no slide is in the folder" in capsys.readouterr().err


def background_area(folder: Path) -> float:
    (line,) = [
        line
        for file in folder.glob("*.csv")
        for line in file.read_text().splitlines()
        if ",background," in line
    ]
    return float(line.split(",")[5])


@pytest.mark.parametrize(
    ("options", "code", "mm2"),
    [
        (["--mpp", "0.25"], 2, 0.016384),
        (["--mpp", "0.25", "--override-mpp"], 0, 0.004096),
        (["--mpp", "0.501"], 0, 0.016384),
        ([], 0, 0.016384),
    ],
)
def test_the_pixel_size_of_the_file_is_kept(
    options: list[str],
    code: int,
    mm2: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slide = colored(tmp_path / "a.tif", (244, 244, 244))
    arguments = ["segment", str(slide), "--out", str(tmp_path / "o"), "--format", "csv"]
    assert main([*arguments, *options]) == code
    assert background_area(tmp_path / "o") == pytest.approx(mm2)
    said = "its file says 0.5 um per pixel, not 0.25" in capsys.readouterr().err
    assert said == (code == 2)


@pytest.mark.parametrize("options", [[], ["--mpp", "0.5"]], ids=str)
def test_pixels_that_are_not_square_give_no_areas(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_tiff(
        tmp_path / "a.tif",
        [np.full((256, 256, 3), 200, np.uint8)],
        resolution=(20_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    arguments = ["segment", str(slide), "--out", str(tmp_path / "o"), "--format", "csv"]
    assert main([*arguments, *options]) == 3
    assert "0.25 um high and 0.5 um wide, not square" in capsys.readouterr().err
    assert not list((tmp_path / "o").glob("*.csv"))
    assert main(["info", str(slide)]) == 0
    assert "not square, so there is no single size" in capsys.readouterr().out
    assert main([*arguments, "--mpp", "0.5", "--override-mpp"]) == 0


def test_a_missing_pixel_size_is_asked_for_before_the_model_is_loaded(
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = colored(tmp_path / "a.tif", (200, 60, 120))
    assert main(["segment", str(picture), str(known), "--out", str(tmp_path), "--quiet"]) == 8
    assert MaskStore.open(tmp_path / "a.plimseg").done_fraction == 1
    monkeypatch.setattr(models, "load_model", lambda *_: pytest.fail("the model is loaded"))
    assert main(["segment", str(picture), "--out", str(tmp_path)]) == 3
    assert "pixel size is unknown" in capsys.readouterr().err


def test_patterns_are_expanded_and_odd_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("b.svs", "a.svs", "[1 0].png"):
        (tmp_path / name).touch()
    assert [p.name for p in expand([str(tmp_path / "*.svs")])] == ["a.svs", "b.svs"]
    assert [p.name for p in expand([str(tmp_path / "[1 0].png")])] == ["[1 0].png"]


def test_regions_are_x_first_as_people_write_them() -> None:
    region = parse_region("10, 20,300,400")
    assert (region.x, region.y, region.width, region.height) == (10, 20, 300, 400)


def test_classes_come_from_words_presets_and_files(tmp_path: Path) -> None:
    words = parse_classes("gland, fat", None)
    assert words is not None
    assert words.names == ("gland", "fat", "background")
    assert parse_classes("glas", None) is PRESETS["glas"]
    assert parse_classes(None, None) is None
    RED_GREEN.to_yaml(tmp_path / "c.yaml")
    assert parse_classes(str(tmp_path / "c.yaml"), None) == RED_GREEN
    prompts = tmp_path / "p.yaml"
    prompts.write_text("stroma: [collagen, fibroblasts]\nvessel: blood vessel\n")
    changed = parse_classes(None, str(prompts))
    assert changed is not None
    assert changed[changed.mask_id("stroma") - 1].texts == ("collagen", "fibroblasts")
    assert changed[changed.mask_id("vessel") - 1].texts == ("blood vessel",)
    assert changed.names[-1] == "background"
    prompts.write_text("- a list")
    with pytest.raises(ConfigError, match=r"p\.yaml.*not a table"):
        parse_classes(None, str(prompts))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_interrupting_and_killing_the_real_program_loses_nothing(
    sample_path: Path, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "napari_plimseg.cli", "segment", str(sample_path)),
        *("--out", str(tmp_path), "--tile-size", "256", "--format", "none", "--json"),
    ]
    # the journal is written once a second: what is older must survive SIGKILL
    for how, code, wait in ((signal.SIGINT, 130, 0.0), (signal.SIGKILL, -signal.SIGKILL, 1.2)):
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            # a shell's background jobs ignore SIGINT, and hand that down
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout is not None
        done = 0
        begin = None
        for line in process.stdout:
            event = json.loads(line)
            done = event.get("tiles_done", done)
            if event["event"] == "progress" and event["tiles_per_second"] > 0:
                begin = begin or time.monotonic()
                if time.monotonic() - begin >= wait:
                    break
        process.send_signal(how)
        process.stdout.read()
        assert process.wait(30) == code
        store = MaskStore.open(tmp_path / f"{sample_path.stem}.plimseg")
        assert store.done_fraction > 0
        assert store.done_fraction < 1
        assert store.forget_damaged() == 0
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    first = next(e for e in events(finished.stdout) if e["event"] == "progress")
    assert first["tiles_done"] < first["tiles_total"] or first["tiles_total"] == 0
    resumed = MaskStore.open(tmp_path / f"{sample_path.stem}.plimseg").read_classes()
    straight = tmp_path / "straight"
    subprocess.run([*command, "--out", str(straight)], capture_output=True, check=True)
    np.testing.assert_array_equal(
        resumed, MaskStore.open(straight / f"{sample_path.stem}.plimseg").read_classes()
    )


def test_labels_go_into_the_slide_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_ome_zarr(tmp_path / "b.zarr", [painted(200, 240, 0)], mpp=0.5)
    arguments = ["segment", str(slide), "--out", str(tmp_path), "--format", "none"]
    assert main([*arguments, "--tile-size", "128", "--no-tissue"]) == 0
    assert not (slide / "labels").exists()
    store = str(tmp_path / "b.plimseg")
    into = ["export", store, "--slide", str(slide), "--into-slide"]
    assert main(into) == 0
    assert (slide / "labels" / "plimseg").is_dir()
    assert not list(tmp_path.glob("*.csv")), "nothing else was asked for"
    assert main([*into, "tissue", "--format", "csv"]) == 0
    assert (slide / "labels" / "tissue").is_dir()
    assert list(tmp_path.glob("*.csv"))
    capsys.readouterr()
    assert main(into) == 7
    told = capsys.readouterr().err
    assert "already has labels 'plimseg'" in told
    assert "--replace" in told
    assert main([*into, "--replace"]) == 0
    damaged = tmp_path / "b.plimseg" / "labels" / "classes" / "0" / "c" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert main([*into, "damaged"]) == 6
    capsys.readouterr()
    assert main([*into, "damaged", "--allow-damaged"]) == 0
    assert "damaged parts count as unreadable: 1 of" in capsys.readouterr().out
    assert (slide / "labels" / "damaged").is_dir()
    assert main(["export", store, "--into-slide"]) == 2
    assert main([*into, "--no-corrections"]) == 2
