"""The one description of what is to be done for slides."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from napari_plimseg.errors import ConfigError, ExportError
from napari_plimseg.files import user_data_dir
from napari_plimseg.fingerprints import fingerprint, former_fingerprints
from napari_plimseg.inference import plan
from napari_plimseg.inference.job import SegmentationJob
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.settings import DockSettings
from napari_plimseg.slides import open_slide
from napari_plimseg.tissue import COLORECTAL, TissueClasses
from tests.support.models import ColorModel, painted
from tests.support.slides import write_ome_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.models.segmentation.base import DenseModel


def test_a_model_is_loaded_by_name_with_the_job_s_classes() -> None:
    asked: list[tuple[str | Path, TissueClasses | None]] = []
    model = ColorModel()

    def load(name: str | Path, classes: TissueClasses | None) -> DenseModel:
        asked.append((name, classes))
        return model

    job = SegmentationJob("mine", COLORECTAL)
    with pytest.raises(ConfigError, match="not loaded"):
        _ = job.dense_model
    loaded = job.loaded(load)
    assert loaded.dense_model is model
    assert asked == [("mine", COLORECTAL)]
    assert loaded.loaded(load).dense_model is model  # a loaded model is not loaded twice
    assert len(asked) == 1


def test_wrong_choices_are_refused_before_any_work() -> None:
    with pytest.raises(ExportError, match=r"'pdf'.*Known: ome-tiff"):
        SegmentationJob(formats=("csv", "pdf"))
    with pytest.raises(ConfigError, match="neither mask nor slide"):
        SegmentationJob(at="level")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"tile size 100 .*Choose"):
        SegmentationJob(ColorModel(), settings=RunSettings(tile_size=100)).loaded()


def test_stores_are_named_by_stem_or_by_what_decides_the_mask(tmp_path: Path) -> None:
    Image.fromarray(painted(64, 64, 0)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        slide.mpp = 0.5
        plain = SegmentationJob(ColorModel(), folder=tmp_path)
        assert plain.store_path(slide, "b") == tmp_path / "b.plimseg"
        named = SegmentationJob(ColorModel(), digest_names=True)
        path = named.store_path(slide, "b")
        assert path.parent == user_data_dir() / "results"
        assert path.name.startswith("a-")
        other = SegmentationJob(ColorModel(), settings=RunSettings(tissue=None), digest_names=True)
        assert other.store_path(slide, "b") != path


def test_the_docks_choices_become_settings_of_the_engine(tmp_path: Path) -> None:
    chosen = DockSettings(
        device="cpu", tile_size=256, batch_size=3, keep_probabilities=False, remove_pen=False,
        tissue_threshold=0.1, results_folder=str(tmp_path),
    )  # fmt: skip
    settings = chosen.run_settings()
    assert (settings.device, settings.tile_size, settings.batch_size) == ("cpu", 256, 3)
    assert not settings.probabilities
    assert settings.tissue is not None
    assert settings.tissue.weak == 0.1
    assert settings.tissue.strong >= 0.1
    assert not settings.tissue.remove_pen
    assert chosen.results_path == tmp_path
    assert DockSettings(tissue_only=False).run_settings().tissue is None


def test_docks_and_programs_find_each_other_s_results() -> None:
    """What decides the mask is the same by default, so the store of one is the other's too."""
    assert DockSettings().run_settings().tissue == RunSettings().tissue
    assert DockSettings().results_path == SegmentationJob().results_folder


def test_results_of_version_0_1_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it identified folders otherwise: by names and sizes only
    write_ome_zarr(tmp_path / "a.zarr", [painted(96, 96, 0)])
    folder = tmp_path / "results"
    other_model = ColorModel()
    other_model.identity = "colours-2"
    with open_slide(tmp_path / "a.zarr") as slide:
        job = SegmentationJob(ColorModel(), folder=folder, digest_names=True)
        other = SegmentationJob(other_model, folder=folder, digest_names=True)
        former = former_fingerprints(slide.path)[0]
        with monkeypatch.context() as at_that_time:
            at_that_time.setattr(plan, "fingerprint", lambda _: former)
            with job.open_store(slide, "a") as store:
                list(job.segment(slide, store))
                path = store.path
            assert store.info.slide_fingerprint == former
        with job.open_store(slide, "a") as store:
            assert store.path == path
            assert store.done_fraction == 1
        # another model's mask shares the corrections, which are found by the fingerprint
        with other.open_store(slide, "a") as store:
            assert store.path != path
            assert store.info.slide_fingerprint == former
        shutil.rmtree(path)
        shutil.rmtree(store.path)
        (folder / f"a-{former[:12]}.plimseg-corrections").mkdir()
        with job.open_store(slide, "a") as store:
            assert store.info.slide_fingerprint == former
    with open_slide(tmp_path / "a.zarr") as slide:
        elsewhere = SegmentationJob(ColorModel(), folder=tmp_path / "new", digest_names=True)
        with elsewhere.open_store(slide, "a") as store:
            assert store.info.slide_fingerprint == fingerprint(slide.path)
