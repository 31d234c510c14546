"""Maps of scenes from the frozen image tower, reduced once and cached in half precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hint_model.scenes import Scene
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_plimseg.models import DenseNetBackbone

FINAL, EARLY = 256, 16  # channels kept of the deep maps (2560) and of the first block (256)
_PER_MAP = 400  # sampled cells per map for computing the axes


def axes_of_samples(samples: Tensor, kept: int) -> Tensor:
    """Return the strongest directions (kept, channels) in samples (N, channels), scaled.

    Products with samples have a mean square of about 1. The mean is not subtracted, so that the
    reduction is a single matrix.
    """
    values, vectors = torch.linalg.eigh(samples.T @ samples / len(samples))
    values, vectors = values[-kept:].flip(0), vectors[:, -kept:].flip(1)
    # the weakest directions are mostly noise and must not be scaled up to the others
    return (vectors / (values + values[1] * 1e-2).sqrt()).T.contiguous()


@dataclass(frozen=True)
class MapsOfScene:
    """A scene as used in training.

    Attributes
    ----------
    final : Tensor of half, shape (2, FINAL, h, w)
        Deep maps of the fine and the coarse patch, with stride 16.
    early : Tensor of half, shape (2, EARLY, 4 h, 4 w)
        Early maps, with stride 4.
    ids : ndarray of uint8, shape (layers, SIDE, SIDE)
    source : str
    """

    final: Tensor
    early: Tensor
    ids: NDArray[np.uint8]
    source: str


@torch.inference_mode()
def raw_maps(backbone: DenseNetBackbone, patches: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
    """Return the deep maps (B, 2560, h, w) and the first block's (B, 256, 4 h, 4 w)."""
    # channels-last memory is a quarter faster on a CPU
    pixels = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float() / 255
    backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, second, third, fourth = backbone(pixels)
    return [torch.cat((F.avg_pool2d(second, 2), third, fourth), 1), first]


def axes_of(backbone: DenseNetBackbone, scenes: Iterable[Scene]) -> tuple[Tensor, Tensor]:
    """Return the axes of the deep and the early maps of some scenes."""
    samples: list[list[Tensor]] = [[], []]
    generator = torch.Generator().manual_seed(0)
    for scene in scenes:
        for kept, maps in zip(samples, raw_maps(backbone, [scene.fine, scene.coarse]), strict=True):
            flat = maps.movedim(1, -1).flatten(0, 2)
            kept.append(flat[torch.randperm(len(flat), generator=generator)[:_PER_MAP]])
    deep, early = (torch.cat(kept) for kept in samples)
    return axes_of_samples(deep, FINAL), axes_of_samples(early, EARLY)


@torch.inference_mode()
def maps_of(backbone: DenseNetBackbone, axes: tuple[Tensor, Tensor], scene: Scene) -> MapsOfScene:
    """Run the tower on both patches of a scene."""
    final, early = (
        F.conv2d(maps, axis[..., None, None]).half()
        for axis, maps in zip(axes, raw_maps(backbone, [scene.fine, scene.coarse]), strict=True)
    )
    return MapsOfScene(final, early, scene.ids, scene.source)
