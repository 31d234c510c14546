"""Proposals from words: regions of a typed tissue, or of a mask's class, as boxes to refine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_plimseg.errors import ConfigError
from napari_plimseg.inference.promptable.geometry import HintMask
from napari_plimseg.models import ImageTextEncoder, ZeroShotModel, load_encoder, text_prototypes
from napari_plimseg.tissue import COLORECTAL, TissueClass, TissueClasses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.results import MaskInfo
    from napari_plimseg.slides import Region, Slide
    from napari_plimseg.tiling import Window


SAME_MEANING = 0.7
"""Cosine of prototypes from which a known tissue counts as a synonym of the typed one: "gland" is
both tumour epithelium (0.84) and normal mucosa (0.76), but not stroma (0.54)."""
SMALLEST_UM2 = 400.0
MOST = 100
_LARGEST_VIEW = 6_000_000  # pixels for the encoder: about 15 seconds on two cores
_MOST_STEPS = 2  # of two; the encoder recognizes nothing beyond four times its pixel size
_SMOOTH_UM = 6.0
_COLOR = (230, 85, 13)


@dataclass(frozen=True)
class Proposal:
    """A region that may be an object, to be refined or dismissed.

    Parameters
    ----------
    box : Region
        In level-0 pixels.
    score : float
        The mean probability of the words inside, in [0, 1]; 1 for regions of a mask.
    mask : HintMask
        The region itself, at the resolution of the proposal.
    """

    box: Region
    score: float
    mask: HintMask


def propose_regions(
    slide: Slide,
    view: Region,
    words: str,
    *,
    encoder: str = "bundled",
    pixel_size: float | None = None,
) -> list[Proposal]:
    """Return regions of the view that match the words, most likely first.

    The words compete with the nine colorectal tissues, except those with a similar meaning.

    Parameters
    ----------
    slide : Slide
    view : Region
        In level-0 pixels.
    words : str
        A tissue; synonyms are separated by commas.
    encoder : str
        An image-text model, by its name for `load_encoder`.
    pixel_size : float, optional
        Micrometers per level-0 pixel to assume where the file has none.

    Returns
    -------
    list of Proposal
        At most `MOST`.

    Raises
    ------
    ConfigError
        Without words, or when the view is too wide.
    SlideError
        When the slide's pixels can't be read, or its pixel size is unknown.
    """
    synonyms = tuple(word.strip() for word in words.split(",") if word.strip())
    if not synonyms:
        raise ConfigError("no tissue was typed", remedy="Type a tissue, for example: gland.")
    loaded = load_encoder(encoder)
    if not isinstance(loaded, ImageTextEncoder):
        raise ConfigError(
            f"'{encoder}' is a vision-only encoder", remedy="Choose an image-text model."
        )
    model = ZeroShotModel(loaded, classes_around(synonyms, loaded))
    mpp = slide.mpp or pixel_size
    own = slide.working_downsample(model.mpp) if mpp is None else model.mpp / mpp
    if slide.mpp is not None:
        own = slide.working_downsample(model.mpp)
    steps = _steps(view, own)
    downsample = own * 2**steps
    found, y, x = _probabilities(slide, view, downsample, model)
    likely = found[0]
    scale = downsample * model.mask_stride
    um = scale * (mpp or 1.0)
    smooth = ndimage.gaussian_filter(found, (0, _SMOOTH_UM / um, _SMOOTH_UM / um))
    return _proposals(smooth.argmax(0) == 0, likely, y, x, scale, SMALLEST_UM2 / um**2)


def regions_of_class(
    ids: NDArray[np.uint8], window: Window, info: MaskInfo, mask_id: int
) -> list[Proposal]:
    """Return the connected regions of one class in a part of a mask, the largest first.

    Parameters
    ----------
    ids : ndarray of uint8, shape (window.height, window.width)
        Mask ids.
    window : Window
        Their position in the mask.
    info : MaskInfo
        The mask's frame.
    mask_id : int
        Of the class.
    """
    um2 = (info.mask_mpp or info.downsample) ** 2
    certain = np.ones(ids.shape, np.float32)
    found = _proposals(
        ids == mask_id, certain, window.y, window.x, info.downsample, SMALLEST_UM2 / um2
    )
    return sorted(found, key=lambda proposal: -proposal.mask.area)


def classes_around(synonyms: tuple[str, ...], encoder: ImageTextEncoder) -> TissueClasses:
    """Return the typed tissue as the first class, and the tissues that it competes with."""
    typed = TissueClass(synonyms[0], _COLOR, synonyms)
    alone = TissueClasses((typed,), has_background=False)
    alike = text_prototypes(COLORECTAL, encoder) @ text_prototypes(alone, encoder)[0]  # (9,)
    others = [
        tissue
        for tissue, cosine in zip(COLORECTAL, alike.tolist(), strict=True)
        if cosine < SAME_MEANING and tissue.name.casefold() != typed.name.casefold()
    ]
    return TissueClasses((typed, *others), has_background=False)


def _steps(view: Region, downsample: float) -> int:
    """Return by how many factors of two a view is read coarser than the model wants."""
    pixels = view.height * view.width / downsample**2
    steps = max(0, math.ceil(math.log2(pixels / _LARGEST_VIEW) / 2))
    if steps > _MOST_STEPS:
        raise ConfigError(
            "the view is too large to search for words", remedy="Zoom in and try again."
        )
    return steps


@torch.inference_mode()
def _probabilities(
    slide: Slide, view: Region, downsample: float, model: ZeroShotModel
) -> tuple[NDArray[np.float32], int, int]:
    """Return probabilities (C, h, w) of the view, and its corner (y, x), in mask pixels."""
    step, stride = model.alignment, model.mask_stride
    first = [math.floor(start / downsample / step) * step for start in (view.y, view.x)]
    last = [
        math.ceil((start + length) / downsample / step) * step
        for start, length in ((view.y, view.height), (view.x, view.width))
    ]
    y, x = (start - model.halo for start in first)
    height, width = (b - a + 2 * model.halo for a, b in zip(first, last, strict=True))
    pixels = slide.read_at(downsample, y, x, height, width)
    seen = model.probabilities(torch.from_numpy(pixels)[None])[0].numpy()
    spans = []
    for start, length, corner in ((view.y, view.height, y), (view.x, view.width, x)):
        begin = math.floor(start / downsample / stride)
        end = max(begin + 1, math.ceil((start + length) / downsample / stride))
        spans.append((begin, slice(begin - corner // stride, end - corner // stride)))
    (top, rows), (left, columns) = spans
    return seen[:, rows, columns], top, left


def _proposals(
    inside: NDArray[np.bool_],
    likely: NDArray[np.float32],
    y: int,
    x: int,
    downsample: float,
    smallest: float,
) -> list[Proposal]:
    labels, count = ndimage.label(inside)
    found = []
    for number, place in enumerate(ndimage.find_objects(labels, count), 1):
        here = labels[place] == number
        if here.sum() < smallest:
            continue
        score = float(likely[place][here].mean())
        mask = HintMask(y + place[0].start, x + place[1].start, downsample, here, score)
        found.append(Proposal(mask.region, score, mask))
    return sorted(found, key=lambda proposal: -proposal.score)[:MOST]
