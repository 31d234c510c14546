"""Changes of stain and light that leave every tag true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# optical densities of haematoxylin, eosin and what is left (Ruifrok and Johnston 2001)
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
_STAIN_SPREAD = 0.15
_SHIFT_SPREAD = 0.03
_BLUR_CHANCE = 0.2


def stained(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Return an image as another laboratory and another scanner might have made it.

    The amounts of haematoxylin and eosin are scaled and shifted (Tellez et al. 2018), brightness
    changes a little, and sometimes the image is blurred.

    Parameters
    ----------
    pixels : Tensor, shape (3, H, W)
        RGB in [0, 1].
    random : Generator

    Returns
    -------
    Tensor, shape (3, H, W)
        RGB in [0, 1].
    """
    stains = torch.tensor(_STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    density = -(pixels.clamp(1 / 255, 1)).log().movedim(0, -1)  # (H, W, 3)
    amounts = density @ torch.linalg.inv(stains)
    scale = torch.from_numpy(random.normal(1, _STAIN_SPREAD, 3)).float()
    shift = torch.from_numpy(random.normal(0, _SHIFT_SPREAD, 3)).float()
    changed = (-(amounts * scale + shift) @ stains).exp().movedim(-1, 0)
    changed = (changed * float(random.normal(1, _SHIFT_SPREAD))).clamp(0, 1)
    if random.random() < _BLUR_CHANCE:
        changed = F.avg_pool2d(changed[None], 3, 1, 1, count_include_pad=False)[0]
    result: Tensor = changed
    return result
