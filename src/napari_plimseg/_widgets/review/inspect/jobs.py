"""The work behind *Inspect* that runs in a thread. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_plimseg.results import (
        Comparison,
        MaskArray,
        MaskInfo,
        MaskStore,
        OtherMask,
        ReviewedRegion,
        UncertainRegion,
    )


@dataclass(frozen=True, eq=False)
class ShownMask:
    """What a mask layer shows, read in the main thread for work in another thread.

    Parameters
    ----------
    ids : ndarray of uint8, shape (h, w)
        The layer's data, corrections included.
    info : MaskInfo
        Frame and classes of the whole mask.
    step : int
        The layer shows every `step`-th pixel of the frame.
    """

    ids: NDArray[np.uint8]
    info: MaskInfo
    step: int


class StoppableMask:
    """A mask that can't be read any more once somebody has cancelled.

    It is read band by band, so the work on it ends with the band.

    Parameters
    ----------
    ids : MaskArray
    stopped : threading.Event
        Set to cancel.
    """

    def __init__(self, ids: MaskArray, stopped: threading.Event) -> None:
        self._ids = ids
        self._stopped = stopped

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels (y, x)."""
        return self._ids.shape

    def __getitem__(self, key: Any, /) -> Any:
        """Return a window as a NumPy array; ConfigError after it was cancelled."""
        if self._stopped.is_set():
            raise ConfigError("the comparison was cancelled")
        return self._ids[key]


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison and its inputs, so that it can be repeated with other choices."""

    other: OtherMask
    mapping: Mapping[int, int]
    result: Comparison


def find_uncertain(
    store: MaskStore,
    shown: ShownMask,
    reviewed: tuple[ReviewedRegion, ...],
    corrected: NDArray[np.uint8] | None = None,
) -> tuple[list[UncertainRegion], float]:
    """Return the worklist and the reviewed fraction of the tissue, 0 to 1."""
    from napari_plimseg.results import reviewed_share, worklist

    regions = worklist(
        store, shown.ids, reviewed=reviewed, mask_step=shown.step, corrected=corrected
    )
    return regions, reviewed_share(shown.ids, shown.info, reviewed, mask_step=shown.step)


def compare_with(
    shown: ShownMask,
    read_other: Callable[[], OtherMask],
    mapping: Mapping[int, int] | None,
    count_background: bool,
    stopped: threading.Event,
) -> Compared:
    """Return the comparison with another mask; without a mapping, classes are matched by name.

    Raises
    ------
    PlimsegError
        When the other mask can't be read or compared, or `stopped` was set.
    """
    from napari_plimseg.results import compare, match_classes

    other, mask = read_other(), StoppableMask(shown.ids, stopped)
    if mapping is None:
        mapping = match_classes(other, shown.info)
    result = compare(
        mask,
        shown.info,
        other,
        mapping,
        mask_step=shown.step,
        count_background=count_background,
    )
    return Compared(other, mapping, result)


def mask_of_labels(
    title: str,
    data: Any,
    scale: tuple[float, float],
    translate: tuple[float, float],
    level_0_pixel: float,
    names: Mapping[int, str] | None,
) -> OtherMask:
    """Return the labels of a layer as a mask on the slide.

    Parameters
    ----------
    title : str
        The layer's name.
    data : array of int, shape (h, w)
    scale, translate : tuple of float
        Of the layer, in world units.
    level_0_pixel : float
        World units per level-0 pixel.
    names : mapping of int to str, optional
        Class name by label.

    Raises
    ------
    ConfigError
        When it is not two-dimensional or has labels above 255.
    """
    from napari_plimseg.results import OtherMask

    ids = np.asarray(data)
    if ids.ndim != 2:
        raise ConfigError(
            f"'{title}' has {ids.ndim} dimensions", remedy="Choose a two-dimensional layer."
        )
    if ids.dtype != np.uint8:
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) > 255):
            raise ConfigError(
                f"'{title}' has labels up to {ids.max()}, so these are objects, not classes",
                remedy="Choose a layer whose labels are class numbers.",
            )
        ids = ids.astype(np.uint8)
    # napari's origin is the center of the slide's first pixel, a mask's is that pixel's corner
    corner = [(t - s / 2) / level_0_pixel + 0.5 for t, s in zip(translate, scale, strict=True)]
    return OtherMask(
        title,
        ids,
        (scale[0] / level_0_pixel, scale[1] / level_0_pixel),
        (corner[0], corner[1]),
        names,
    )
