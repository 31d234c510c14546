"""Weights that resample pixels so that no pixel depends on the window it is read with."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


def resampling_weights(ratio: float, start: int, count: int) -> tuple[csr_matrix, int, int]:
    """Return weights with which outputs average fine pixels along one axis, and the fine window.

    Outputs at least as large as the inputs average by overlap; smaller ones interpolate linearly.
    The weights of an output pixel depend on its own global position only.

    Parameters
    ----------
    ratio : float
        Fine pixels per output pixel.
    start, count : int
        The outputs, in pixels of the output.

    Returns
    -------
    weights : csr_matrix of float32, shape (count, fine_count)
    fine_start, fine_count : int
        The fine pixels that take part.
    """
    index = np.arange(start, start + count, dtype=np.float64)
    if ratio >= 1:
        lower, upper = index * ratio, (index + 1) * ratio
        first = np.floor(lower + 1e-9).astype(np.int64)
        reach = int(np.ceil(ratio)) + 1
        taps = first[:, None] + np.arange(reach)
        weights = np.minimum(taps + 1, upper[:, None]) - np.maximum(taps, lower[:, None])
        weights = np.clip(weights, 0, None)
    else:
        centre = (index + 0.5) * ratio - 0.5
        first = np.floor(centre).astype(np.int64)
        taps = first[:, None] + np.arange(2)
        weights = np.clip(1 - np.abs(centre[:, None] - taps), 0, None)
    weights /= weights.sum(1, keepdims=True)
    fine_start = int(taps.min())
    fine_count = int(taps.max()) - fine_start + 1
    rows = np.repeat(np.arange(count), taps.shape[1])
    matrix = csr_matrix(
        (weights.ravel().astype(np.float32), (rows, (taps - fine_start).ravel())),
        shape=(count, fine_count),
    )
    return matrix, fine_start, fine_count
