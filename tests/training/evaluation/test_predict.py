"""Probabilities of an image lie where its pixels are, whatever the pixel size and the tiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from torch.nn import functional

from napari_plimseg.errors import ConfigError, PlimsegError
from napari_plimseg.models.windows import WindowGrid
from napari_plimseg.tissue import TissueClass, TissueClasses
from plimseg_training.evaluation.predict import predict_image, predict_maps, resampled
from plimseg_training.evaluation.scoring import ClassMap, parse_class_map
from tests.support.trained_models import RGB_CLASSES, ChannelModel

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width].copy()


@pytest.mark.parametrize("shape", [(64, 64), (33, 70), (5, 3), (1, 1)])
def test_a_model_that_repeats_its_input_gives_the_image_back(shape: tuple[int, int]) -> None:
    rgb = picture(*shape)
    model = ChannelModel(mask_stride=1)
    found = predict_image(model, rgb, 0.5)
    assert found.shape == (3, *shape)
    np.testing.assert_allclose(found, rgb.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("mpp", [0.25, 0.62, 1.0, 1.13])
def test_nothing_shifts_when_pixel_sizes_differ(mpp: float) -> None:
    rows, columns = np.mgrid[0:90, 0:120]
    rgb = np.stack((rows * 2, columns * 2, rows + columns), 2).astype(np.uint8)
    found = predict_image(ChannelModel(mask_stride=4), rgb, mpp)
    expected = rgb.transpose(2, 0, 1) / 255
    margin = slice(8, -8)  # ramps are exact but for the repeated border
    assert np.abs(found - expected)[:, margin, margin].max() < 0.01


def test_tiles_agree_with_the_whole() -> None:
    rgb = picture(150, 170)
    whole = predict_image(ChannelModel(blur=5), rgb, 0.5)
    model = ChannelModel(blur=5)
    np.testing.assert_allclose(predict_image(model, rgb, 0.5, tile_size=32), whole, atol=1e-6)
    assert len(model.shapes) == 5 * 6
    assert max(max(shape[1:3]) for shape in model.shapes) <= 32 + 2 * 16


def test_bands_agree_with_the_whole() -> None:
    rgb = picture(70, 50)
    maps, _ = predict_maps(ChannelModel(), rgb, 0.3)
    whole = maps.rows(0, 70)
    for band, part in maps.bands(16):
        np.testing.assert_array_equal(part, whole[:, band])


def test_turning_and_flipping_averages_what_lies_together() -> None:
    rgb = picture(45, 62)
    plain, averaged = predict_maps(ChannelModel(), rgb, 0.5, tta=True)
    assert averaged is not None
    # the model has no direction, so the mean of all eight is the same map
    np.testing.assert_allclose(averaged.maps, plain.maps, atol=1e-6)

    class Leaning(ChannelModel):
        def probabilities(self, images):  # type: ignore[no-untyped-def]
            maps = super().probabilities(images)
            maps[..., 1:] = maps[..., :-1].clone()  # one to the right
            return maps

    plain, averaged = predict_maps(Leaning(), rgb, 0.5, tta=True)
    assert averaged is not None
    eight = []
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(np.pad(rgb, ((0, 3), (0, 2), (0, 0)), mode="reflect"), turns)
            turned = turned[:, ::-1] if flip else turned
            there = predict_maps(Leaning(), np.ascontiguousarray(turned), 0.5)[0].maps
            there = there[:, :, ::-1] if flip else there
            eight.append(np.rot90(there, -turns, axes=(1, 2))[:, :12, :16])
    np.testing.assert_allclose(averaged.maps, np.mean(eight, 0), atol=1e-6)
    assert np.abs(averaged.maps - plain.maps).max() > 0.05


class Windowed(ChannelModel):
    """Sees windows of 40 px every 32 px, each with its own mean."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = WindowGrid(40, 4, 32)
        self.alignment, self.halo = self.grid.alignment, self.grid.halo
        self.windows = 0

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        return self.grid.dense(images.permute(0, 3, 1, 2).float() / 255, self.seen)

    def seen(self, windows: torch.Tensor) -> torch.Tensor:
        self.windows += len(windows)
        return functional.avg_pool2d(windows, 4) + windows.mean((2, 3), keepdim=True)


def test_a_rest_of_few_pixels_needs_no_windows_of_its_own() -> None:
    rgb = picture(66, 98)
    framed = np.pad(rgb, ((0, 30), (0, 30), (0, 0)), mode="reflect")
    few, many = Windowed(), Windowed()
    found = predict_maps(few, rgb, 0.5)[0].maps
    whole = predict_maps(many, framed, 0.5)[0].maps[:, :17, :25]
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert (few.windows, many.windows) == (3 * 4, 4 * 5)
    tiled = predict_maps(Windowed(), rgb, 0.5, tile_size=32)[0].maps
    np.testing.assert_allclose(tiled, found, atol=1e-5)
    # a larger rest does
    larger = Windowed()
    predict_maps(larger, picture(67, 98), 0.5)
    assert larger.windows == 4 * 4


def test_lack_of_memory_makes_tiles_smaller() -> None:
    rgb = picture(300, 300)
    model = ChannelModel(largest=200 * 200)
    np.testing.assert_allclose(
        predict_image(model, rgb, 0.5), predict_image(ChannelModel(), rgb, 0.5), atol=1e-6
    )
    with pytest.raises(PlimsegError, match="memory"):
        predict_image(ChannelModel(largest=100), rgb, 0.5)


def test_other_errors_are_not_swallowed() -> None:
    class Broken(ChannelModel):
        def probabilities(self, images):  # type: ignore[no-untyped-def]
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        predict_image(Broken(), picture(8, 8), 0.5)


def test_shrinking_averages_by_overlap() -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[:2, :2] = 200
    assert resampled(rgb, 2.0)[..., 0].tolist() == [[200, 0, 0], [0, 0, 0]]
    assert resampled(rgb, 0.5).shape == (8, 10, 3)
    assert resampled(rgb, 1.0) is rgb


@pytest.mark.parametrize(
    ("rgb", "mpp"),
    [
        (np.zeros((4, 4), np.uint8), 0.5),
        (np.zeros((4, 4, 4), np.uint8), 0.5),
        (np.zeros((4, 4, 3), np.float32), 0.5),
        (np.zeros((0, 4, 3), np.uint8), 0.5),
        (np.zeros((4, 4, 3), np.uint8), 0.0),
    ],
)
def test_what_is_no_image_is_refused(rgb: NDArray[np.uint8], mpp: float) -> None:
    with pytest.raises(ConfigError):
        predict_image(ChannelModel(), rgb, mpp)


def classes_named(*names: str, background: bool = False) -> TissueClasses:
    return TissueClasses(tuple(TissueClass(n, (1, 2, 3)) for n in names), background)


def test_classes_match_by_name_and_as_told() -> None:
    data = classes_named("gland", "other", background=False)
    model = classes_named("tumour", "normal", "stroma", "background", background=True)
    chosen = parse_class_map(["tumour=gland", "normal = gland", "stroma=other"])
    found = ClassMap.between(model, data, chosen)
    assert found.matrix.tolist() == [[True, True, False, False], [False, False, True, False]]
    probabilities = np.array([0.1, 0.3, 0.2, 0.4], np.float32).reshape(4, 1, 1)
    assert found(probabilities).ravel() == pytest.approx([0.4, 0.2])
    left_out = ClassMap.between(model, data, {"tumour": "gland", "normal": "-", "stroma": "-"})
    assert left_out.known.tolist() == [True, False]
    rest = ClassMap.between(model, data, {"tumour": "gland", "*": "other"})
    assert rest.matrix.tolist() == [[True, False, False, False], [False, True, True, True]]
    with pytest.raises(ConfigError, match=r"no class 'tumour'.*--map 'tumour=CLASS'"):
        ClassMap.between(model, data)
    with pytest.raises(ConfigError, match="none of the data's tissue classes"):
        ClassMap.between(model, data, {"tumour": "-", "normal": "-", "stroma": "-"})


def test_the_same_classes_pass_through_in_any_order_and_case() -> None:
    swapped = classes_named("Green", "RED", "glass", background=True)
    found = ClassMap.between(swapped, RGB_CLASSES)
    assert found.matrix.tolist() == [
        [False, True, False],
        [True, False, False],
        [False] * 2 + [True],
    ]
    same = ClassMap.between(RGB_CLASSES, RGB_CLASSES)
    maps = np.random.default_rng(0).random((3, 4, 4), dtype=np.float32)
    assert np.shares_memory(same(maps), maps)


def test_data_may_have_a_background_that_the_model_lacks() -> None:
    found = ClassMap.between(classes_named("red", "green"), RGB_CLASSES)
    maps = np.random.default_rng(0).random((2, 4, 4), dtype=np.float32)
    both = found(maps)
    np.testing.assert_array_equal(both[:2], maps)
    assert both.shape == (3, 4, 4)
    assert not both[2].any()


@pytest.mark.parametrize("entry", ["gland", "=gland", "gland="])
def test_a_map_entry_needs_two_sides(entry: str) -> None:
    with pytest.raises(ConfigError, match="does not match two classes"):
        parse_class_map([entry])
