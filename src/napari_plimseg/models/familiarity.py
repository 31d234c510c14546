"""What a model's training tissue looked like, so that it can say when a slide is unlike it.

The description of a window is the mean and the standard deviation of each channel of a map of the
shipped encoder `small` at stride 8. A model's own encoder would not do: training makes it ignore
what differs between stains and laboratories, and deeper maps do so too. The distance is
Mahalanobis' in the main directions of the training windows (Lee et al., "A simple unified framework
for detecting out-of-distribution samples", 2018, with one Gaussian for all classes), per direction,
so that it is about 1 for tissue like that of the training.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import load_backbone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models.encoders import Backbone


ENCODER, STRIDE = "small", 8
WINDOW_SIDE = 256
"""Pixels at the model's resolution."""
DIRECTIONS, FOLDS = 32, 5
FEWEST_WINDOWS = 20
"""Too few training windows say nothing about what tissue looks like."""
MOST_WINDOWS = 400
LIMIT_QUANTILE = 0.9
"""Of the training windows' own distances: the limit for the mean distance of a slide's windows.
The mean varies much less than a single window, which leaves room for other laboratories."""
FAMILIARITY = "familiarity."
"""Start of its tensors' names in model files."""
_CENTER, _PROJECTION = "center", "projection"
_MOST_DIRECTIONS, _MOST_FEATURES, _LARGEST = 64, 16_384, 1e6
_BRIGHTEST, _LEAST_TISSUE = 210, 0.3


@dataclass(frozen=True, eq=False)
class Familiarity:
    """The distribution of the features of a model's training windows.

    Parameters
    ----------
    center : ndarray of float, shape (F,)
        Mean features.
    projection : ndarray of float, shape (D, F)
        Main directions of the features, scaled so that the training windows have a variance of 1
        along each.
    limit : float
        Largest distance of a slide whose tissue is like that of the training.
    encoder : str
        Identity of the encoder; features of another one say nothing.

    Raises
    ------
    ModelError
        When shapes don't match, or a value is not finite or impossible.
    """

    center: NDArray[np.float32]
    projection: NDArray[np.float32]
    limit: float
    encoder: str

    def __post_init__(self) -> None:
        for name in (_CENTER, _PROJECTION):
            values = np.array(getattr(self, name), np.float32)
            if not np.isfinite(values).all() or np.abs(values).max(initial=0) > _LARGEST:
                raise ModelError(f"its training tissue's {name} holds impossible values")
            object.__setattr__(self, name, values)
        _check_shapes(self.center.shape, self.projection.shape)
        if type(self.limit) not in (int, float) or not 0 < self.limit <= _LARGEST:
            raise ModelError(f"its limit for unlike tissue, {str(self.limit)[:40]}, is impossible")
        if type(self.encoder) is not str:
            raise ModelError("its description of the training tissue names no encoder")

    @classmethod
    def fitted(cls, images: Sequence[NDArray[np.uint8]]) -> Familiarity | None:
        """Fit it to training images.

        The limit comes from windows of images that are left out of the fit in turn, because a fit
        to few windows finds these closer than any others.

        Parameters
        ----------
        images : sequence of ndarray of uint8, each (h, w, 3)
            At the model's resolution. Parts without tissue are left out.

        Returns
        -------
        Familiarity or None
            None when there are fewer than `FEWEST_WINDOWS` windows with tissue.
        """
        most = max(1, MOST_WINDOWS // max(1, len(images)))
        features, groups = [], []
        for number, image in enumerate(images[:: 1 + len(images) // MOST_WINDOWS]):
            for window in _windows(image, most):
                features.append(tissue_features(window))
                groups.append(number % FOLDS)
        if len(features) < FEWEST_WINDOWS:
            return None
        known, fold = np.stack(features), np.array(groups)
        left_out = [
            _distances(known[fold == k], *_directions(known[fold != k]))
            for k in range(FOLDS)
            if (fold == k).any() and (fold != k).sum() > 1
        ]
        center, projection = _directions(known)
        values = np.concatenate(left_out) if left_out else _distances(known, center, projection)
        limit = round(float(np.quantile(values, LIMIT_QUANTILE)), 3)
        return cls(center, projection, limit, _encoder().identity)

    @classmethod
    def from_parts(cls, data: Any, tensors: Mapping[str, Tensor]) -> Familiarity:
        """Build from a model file's parts, the outputs of `to_dict` and `tensors`.

        Raises
        ------
        ModelError
            When a part is missing, unknown or impossible.
        """
        complete = isinstance(data, dict) and set(data) == {"limit", "encoder"}
        if not complete or set(tensors) != {_CENTER, _PROJECTION}:
            raise ModelError("its description of the training tissue is incomplete")
        arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        found = cls(arrays[_CENTER], arrays[_PROJECTION], data["limit"], data["encoder"])
        wanted = 2 * _encoder().block_channels[_encoder().strides.index(STRIDE)]
        if found.encoder == _encoder().identity and len(found.center) != wanted:
            raise ModelError(
                f"its training tissue has {len(found.center)} features, its encoder {wanted}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model file's header."""
        return {"limit": self.limit, "encoder": self.encoder}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for a model file, by name without `FAMILIARITY`."""
        import torch

        parts = {_CENTER: self.center, _PROJECTION: self.projection}
        return {name: torch.from_numpy(values) for name, values in parts.items()}

    def distance(self, windows: Iterable[NDArray[np.uint8]]) -> float | None:
        """Return the mean distance of windows from the training tissue.

        Parameters
        ----------
        windows : iterable of ndarray of uint8, each (h, w, 3)
            At the model's resolution, `WINDOW_SIDE` pixels if possible.

        Returns
        -------
        float or None
            None when no window holds tissue, or this version has another encoder.
        """
        if self.encoder != _encoder().identity:
            return None
        features = [tissue_features(each) for each in windows if shows_tissue(each)]
        if not features:
            return None
        return float(_distances(np.stack(features), self.center, self.projection).mean())


def _check_shapes(center: Sequence[int], projection: Sequence[int]) -> None:
    """Refuse arrays that don't fit together or are larger than any network's."""
    fits = len(center) == 1 and len(projection) == 2 and projection[1] == center[0]
    if not fits or not (
        1 <= projection[0] <= _MOST_DIRECTIONS and 2 <= center[0] <= _MOST_FEATURES
    ):
        raise ModelError(
            "its description of the training tissue has the impossible shapes "
            f"{tuple(center)} and {tuple(projection)}"
        )


def unlike_sentence(distance: float, limit: float) -> str:
    """Return what people should know about a slide; "" when its tissue is like the training's."""
    if distance <= limit:
        return ""
    return (
        "This slide looks unlike the tissue that this model was trained on "
        f"(distance {distance:.2f}; at most {limit:.2f} for tissue like it). "
        "Check the result with care."
    )


def shows_tissue(image: NDArray[np.uint8]) -> bool:
    """Whether enough of an image (h, w, 3) is darker than glass."""
    return float((image.min(2) < _BRIGHTEST).mean()) >= _LEAST_TISSUE


@functools.cache
def _encoder() -> Backbone:
    return load_backbone(ENCODER).eval()


def tissue_features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features (2 C,) of an image (h, w, 3): mean and deviation of each channel."""
    import torch

    backbone = _encoder()
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(image))
        scaled = pixels.permute(2, 0, 1)[None].float() / 255
        level = backbone.strides.index(STRIDE)
        maps = backbone(scaled, stages=level + 1)[level][0].float().flatten(1)  # (C, h * w)
        found = torch.cat((maps.mean(1), maps.std(1, correction=0)))
        result: NDArray[np.float32] = found.cpu().numpy()
    return result


def _windows(image: NDArray[np.uint8], most: int) -> list[NDArray[np.uint8]]:
    """Return up to `most` windows with tissue, evenly chosen; a small image is one window."""
    side, (height, width) = WINDOW_SIDE, image.shape[:2]
    corners = [
        (y, x)
        for y in range(0, max(1, height - side + 1), side)
        for x in range(0, max(1, width - side + 1), side)
    ]
    windows = [image[y : y + side, x : x + side] for y, x in corners]
    windows = [window for window in windows if shows_tissue(window)]
    chosen = np.unique(
        np.linspace(0, len(windows) - 1, min(most, len(windows))).round().astype(int)
    )
    return [windows[index] for index in chosen]


def _directions(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return center (F,) and scaled main directions (D, F) of features (N, F)."""
    values = features.astype(np.float64)
    center, spread = values.mean(0), values.std(0) + 1e-6
    _, sizes, axes = np.linalg.svd((values - center) / spread, full_matrices=False)
    # a direction that few windows determine would make every other window look far away
    count = min(DIRECTIONS, max(1, len(values) // 4), len(axes))
    deviations = sizes[:count] / np.sqrt(len(values))
    keep = deviations > 1e-3 * max(deviations[0], 1e-9)  # images that are all alike have few
    scaled = axes[:count][keep] / deviations[keep, None] / spread
    return center.astype(np.float32), np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float32)


def _distances(
    features: NDArray[np.float32], center: NDArray[np.float32], projection: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the distance (N,) of each row of features (N, F)."""
    placed = (features.astype(np.float64) - center) @ projection.T.astype(np.float64)
    result: NDArray[np.float64] = np.sqrt((placed**2).mean(1))
    return result
