"""What computes the network of a run: chosen once per mask, checked on its tissue, and kept."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from napari_plimseg.errors import StoreError, is_out_of_memory
from napari_plimseg.models import (
    NOT_INSTALLED,
    TORCH,
    Acceleratable,
    Engine,
    EngineError,
    engines_for,
)
from napari_plimseg.results import Computation

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel


LEAST_AGREEMENT = 0.995
"""Share of tissue pixels that must have the same class as by torch in float32."""
_logger = logging.getLogger(__name__)


def prepare(model: DenseModel, precision: str) -> None:
    """Convert and compile a model's network for the engine that a run tries first."""
    if isinstance(model, Acceleratable) and model.window:
        with contextlib.suppress(EngineError):
            model.running_on(engines_for(precision)[0])


def started_on(
    model: DenseModel, recorded: Computation, device: torch.device
) -> tuple[DenseModel, str]:
    """Return a model that is computed as the first part of its mask was, and a note for people.

    Parameters
    ----------
    model : DenseModel
        On its device.
    recorded : Computation
        Of the mask.
    device : torch.device
        Of this run.

    Raises
    ------
    StoreError
        When this computer can't: the rest of the mask would be of other numbers. In float32,
        torch takes over, whose masks are the same.
    """
    if recorded.engine == TORCH.name or not isinstance(model, Acceleratable):
        return model, ""
    problem = f"it runs on {device.type}, not on the CPU"
    if device.type == "cpu":
        try:
            engine = Engine(recorded.engine, recorded.precision)
            if engine in engines_for(recorded.precision):
                return model.running_on(engine), ""
        except EngineError as error:
            problem = error.problem
    if recorded.precision == TORCH.precision:
        return model, f"Torch continues in float32: {problem}."
    raise StoreError(
        f"its finished part was computed in {recorded.precision}, and here {problem}",
        remedy="Continue on the CPU of such a computer (--device cpu), or compute all of it "
        "again (--no-resume).",
    )


def chosen(
    model: DenseModel,
    windows: Callable[[int, int], tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    precision: str,
    device: torch.device,
) -> tuple[DenseModel, Computation]:
    """Return the model on the fastest engine whose mask agrees with torch's, and what it is.

    It depends on slide, model, tissue settings and computer, not on region, tiles or their order.

    Parameters
    ----------
    model : DenseModel
        On its device.
    windows : callable
        Takes side and mask stride, and returns `checked_windows` of the slide; called only if an
        engine is to be checked.
    precision : str
        One of `PRECISIONS`. "bfloat16" is used whatever the agreement.
    device : torch.device
    """
    if device.type != "cpu" or not isinstance(model, Acceleratable) or not model.window:
        reason = (
            "bfloat16 is for CPUs and networks of fixed size" if precision == "bfloat16" else ""
        )
        return model, Computation(reason=_sentence(reason))
    reason, reference = "", None
    try:
        engines = engines_for(precision)
    except EngineError as error:
        return model, Computation(reason=_sentence(error.problem))
    images, tissue = windows(model.window, model.mask_stride)
    for engine in engines:
        try:
            fast = model.running_on(engine)
            agreement = None
            if len(images):
                if reference is None:
                    reference = _classes(model, images)
                agreement = round(float((_classes(fast, images) == reference)[tissue].mean()), 5)
        except EngineError as error:
            reason = error.problem
            break
        found = Computation(engine.name, engine.precision, agreement)
        _logger.info("%s: agreement with torch in float32 %s", found, agreement)
        lossless = engine.precision == TORCH.precision and agreement is None
        if precision == "bfloat16" or lossless or (agreement or 0) >= LEAST_AGREEMENT:
            return fast, found
        share = 100 * (agreement or 0)
        reason = f"in {found}, only {share:.2f} % of the checked pixels are as in torch"
    return model, Computation(reason=_sentence(reason))


def note_of(computation: Computation, precision: str) -> str:
    """Return what people should know about the computation of a new mask; may be empty."""
    # who did not install OpenVINO need not be told with every mask
    missing = precision == "auto" and NOT_INSTALLED in computation.reason
    return "" if missing else computation.reason


def _sentence(reason: str) -> str:
    return f"Torch computes this mask in float32: {reason}." if reason else ""


def _classes(model: DenseModel, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the classes (N, h, w) of windows (N, H, W, 3)."""
    import torch

    try:
        with torch.inference_mode():
            found: NDArray[np.int64] = (
                model.probabilities(torch.from_numpy(images)).argmax(1).cpu().numpy()
            )
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise EngineError(f"the network failed ({str(error).splitlines()[0][:200]})") from error
    return found
