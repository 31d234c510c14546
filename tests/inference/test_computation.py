"""What computes a mask: checked against torch on its own tissue, recorded, kept for its rest."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_plimseg.errors import StoreError
from napari_plimseg.files import user_cache_dir
from napari_plimseg.inference import (
    ENGINE,
    RunRegion,
    RunSettings,
    computation,
    open_store,
    segment_slide,
    warm_up,
)
from napari_plimseg.inference.computation import LEAST_AGREEMENT
from napari_plimseg.inference.plan import Frame, TissueGate
from napari_plimseg.inference.unlike import checked_windows
from napari_plimseg.models import Engine, EngineError, acceleration, load_model
from napari_plimseg.results import Computation, MaskStore
from napari_plimseg.slides import Region, open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_plimseg.models import DenseModel
    from napari_plimseg.slides import Slide

PART = RunRegion.rectangle(Region(1100, 900, 200, 200))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> DenseModel:
    return load_model("bundled-skin")


@pytest.fixture
def slide(sample_path: Path) -> Iterator[Slide]:
    with open_slide(sample_path) as slide:
        yield slide


def run(slide: Slide, model: DenseModel, path: Path, **settings: Any) -> tuple[MaskStore, str]:
    region = settings.pop("region", PART)
    chosen = RunSettings(**{"tile_size": 256, "device": "cpu", **settings})
    store, note = open_store(slide, model, path, settings=chosen), ""
    with store:
        for progress in segment_slide(slide, model, store, region=region, settings=chosen):
            note = progress.note or note
    return store, note


def chosen(slide: Slide, model: DenseModel, precision: str) -> Computation:
    frame = Frame.of(slide, model)
    gate = TissueGate.of(slide, RunSettings(), frame.downsample * model.mask_stride)
    windows = partial(checked_windows, slide, frame, gate)
    return computation.chosen(model, windows, precision, CPU)[1]


def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})


def test_the_default_engine_gives_the_mask_of_torch(
    slide: Slide, model: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, note = run(slide, model, tmp_path / "fast.plimseg")
    found = fast.info.computation
    assert note == ""
    assert found is not None
    assert found.engine == "openvino"
    assert (found.agreement or 0) >= LEAST_AGREEMENT
    assert found.sentence.startswith(f"OpenVINO in {found.precision}; {100 * found.agreement:.2f}")

    def broken(precision: str) -> list[Engine]:
        raise EngineError("OpenVINO is broken")

    monkeypatch.setattr(computation, "engines_for", broken)
    slow, note = run(slide, model, tmp_path / "slow.plimseg")
    assert note == "Torch computes this mask in float32: OpenVINO is broken."
    assert slow.info.computation == Computation(reason=note)
    masks = [MaskStore.open(store.path).read_classes() for store in (fast, slow)]
    tissue = masks[1] > 0
    assert tissue.sum() > 2000
    assert np.mean(masks[0][tissue] == masks[1][tissue]) >= LEAST_AGREEMENT


def test_an_engine_with_other_masks_is_not_used(
    slide: Slide, model: DenseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = acceleration._Compiled.__call__

    def wrong(self: Any, windows: torch.Tensor) -> torch.Tensor:
        return compute(self, windows).roll(1, dims=1)

    monkeypatch.setattr(acceleration._Compiled, "__call__", wrong)
    found = chosen(slide, model, "auto")
    assert (found.engine, found.precision, found.agreement) == ("torch", "float32", None)
    assert "% of the checked pixels are as in torch" in found.reason
    without_bfloat16(monkeypatch)
    assert chosen(slide, model, "bfloat16").reason == (
        "Torch computes this mask in float32: this computer's CPU has no instructions for bfloat16."
    )


def test_a_network_that_fails_is_computed_by_torch(
    slide: Slide, model: DenseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, windows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("primitive not implemented")

    monkeypatch.setattr(acceleration._Compiled, "__call__", fail)
    reason = chosen(slide, model, "float32").reason
    assert reason == (
        "Torch computes this mask in float32: the network failed (primitive not implemented)."
    )


def test_the_precision_is_checked_on_tissue_and_always_the_same(
    slide: Slide, model: DenseModel
) -> None:
    frame = Frame.of(slide, model)
    gate = TissueGate.of(slide, RunSettings(), frame.downsample * model.mask_stride)
    images, tissue = checked_windows(slide, frame, gate, 320, 4)
    assert images.shape == (4, 320, 320, 3)
    assert tissue.shape == (4, 80, 80)
    assert tissue.mean((1, 2)).min() >= 0.5
    assert images[tissue.repeat(4, 1).repeat(4, 2)].mean() < 225  # not glass
    again, _ = checked_windows(slide, frame, gate, 320, 4)
    assert np.array_equal(images, again)


def test_a_resumed_mask_keeps_engine_and_precision(
    slide: Slide, model: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(slide, model, tmp_path / "whole.plimseg", precision="auto")
    first, _ = run(slide, model, tmp_path / "part.plimseg")
    half = RunRegion.rectangle(Region(1100, 900, 100, 100))
    assert first.info.computation == whole.info.computation
    # a store that was begun in float32 stays so where bfloat16 would be chosen
    path = tmp_path / "begun.plimseg"
    with monkeypatch.context() as patched:
        without_bfloat16(patched)
        begun, _ = run(slide, model, path, region=half)
    assert begun.info.computation is not None
    assert begun.info.computation.precision == "float32"
    monkeypatch.setattr(computation, "chosen", lambda *args: pytest.fail("chosen again"))
    later = RunRegion.rectangle(Region(1900, 1700, 300, 300))
    ended, note = run(slide, model, path, region=later)
    assert ended.info.computation == begun.info.computation
    assert note == ""


def test_a_mask_begun_by_an_early_version_is_continued_by_torch(
    slide: Slide, model: DenseModel, tmp_path: Path
) -> None:
    path = tmp_path / "early.plimseg"
    run(slide, model, path)
    with MaskStore.open(path, writable=True) as store:
        store.describe(replace(store.info, computation=None))
    later, _ = run(slide, model, path, region=RunRegion.rectangle(Region(1900, 1700, 300, 300)))
    assert later.info.computation == Computation()


def test_a_mask_in_bfloat16_is_not_continued_in_other_numbers(
    slide: Slide, model: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.plimseg"
    run(slide, model, path)
    later = RunRegion.rectangle(Region(1900, 1700, 300, 300))
    with MaskStore.open(path, writable=True) as store:
        store.describe(replace(store.info, computation=Computation("openvino", "bfloat16", 0.998)))
    without_bfloat16(monkeypatch)
    with pytest.raises(StoreError, match="no instructions for bfloat16"):
        run(slide, model, path, region=later)
    # torch gives the same masks in float32, and says that it does
    with MaskStore.open(path, writable=True) as store:
        store.describe(replace(store.info, computation=Computation("openvino", "float32", 1.0)))

    def missing(self: Any, engine: Engine) -> Any:
        raise EngineError(acceleration.NOT_INSTALLED)

    monkeypatch.setattr(type(model), "running_on", missing)
    store, note = run(slide, model, path, region=later)
    assert note == "Torch continues in float32: OpenVINO is not installed."


def test_who_did_not_install_openvino_is_not_told_with_every_mask(
    slide: Slide, model: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Any, engine: Engine) -> Any:
        raise EngineError(acceleration.NOT_INSTALLED)

    monkeypatch.setattr(type(model), "running_on", missing)
    store, note = run(slide, model, tmp_path / "x.plimseg")
    assert note == ""
    assert store.info.computation is not None
    assert "OpenVINO is not installed" in store.info.computation.reason
    _, note = run(slide, model, tmp_path / "y.plimseg", precision="float32")
    assert "OpenVINO is not installed" in note


def test_a_chosen_precision_has_a_store_of_its_own(
    slide: Slide, model: DenseModel, tmp_path: Path
) -> None:
    path = tmp_path / "x.plimseg"
    run(slide, model, path)
    with pytest.raises(StoreError, match="another model or setting"):
        run(slide, model, path, precision="float32")


def test_the_record_survives_a_file(slide: Slide, model: DenseModel, tmp_path: Path) -> None:
    store, _ = run(slide, model, tmp_path / "x.plimseg")
    info = store.info
    assert type(info).from_dict(info.to_dict()).computation == info.computation
    early = {key: value for key, value in info.to_dict().items() if key != "computation"}
    assert type(info).from_dict(early).computation is None
    with pytest.raises(StoreError):
        type(info).from_dict({**early, "computation": {"engine": "openvino"}})


def test_what_was_warmed_up_is_not_prepared_again(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, settings = load_model("bundled-skin"), RunSettings(device="cpu", precision="float32")
    with ENGINE.held_by("another run"):
        warm_up(model, settings)
    assert not (user_cache_dir() / "networks").exists()
    warm_up(model, settings)
    with monkeypatch.context() as patched:
        patched.setattr(acceleration, "_exported", lambda network: pytest.fail("prepared again"))
        store, _ = run(slide, model, tmp_path / "x.plimseg", precision="float32")
    assert store.info.computation is not None
    assert store.info.computation.engine == "openvino"

    def missing() -> None:
        raise EngineError(acceleration.NOT_INSTALLED)

    monkeypatch.setattr(acceleration, "openvino_package", missing)
    warm_up(load_model("bundled-skin"), settings)  # the run says so
