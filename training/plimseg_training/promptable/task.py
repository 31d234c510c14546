"""Training of a promptable model as the training loop sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models import Encoded, PatchHints
from plimseg_training.promptable.simulated_prompts import box_of, corrected, first_hints, innermost
from plimseg_training.stages import BUDGET_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_plimseg.models import DualMasks, WsiSam
    from plimseg_training.promptable.config import HintRecipe
    from plimseg_training.promptable.objects import Objects, Pair


@dataclass(frozen=True)
class PointSampling:
    """Number and choice of the points at which masks are compared.

    Comparing points in place of all pixels, mostly uncertain ones near edges, is the loss of
    PointRend (Kirillov et al., CVPR 2020) and Mask2Former.

    Parameters
    ----------
    points : int
        Points per mask.
    oversample : float
        Ratio of candidates to points.
    uncertain : float
        Share of the points taken from the most uncertain candidates; the rest is random.
    """

    points: int = 112 * 112
    oversample: float = 3.0
    uncertain: float = 0.75

    def __post_init__(self) -> None:
        if self.points < 1 or self.oversample < 1 or not 0 <= self.uncertain <= 1:
            raise ValueError(f"{self} is out of range")


def values_at(maps: Tensor, places: Tensor) -> Tensor:
    """Return bilinear values (B, N) of maps (B, 1, H, W) at places (B, N, 2).

    Parameters
    ----------
    maps : Tensor
    places : Tensor
        (x, y) as fractions of the map's width and height, 0 to 1.
    """
    # "border", because zeros around the map would make every border look uncertain
    found = F.grid_sample(
        maps, 2 * places[:, None] - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[:, 0, 0]


@torch.no_grad()
def uncertain_places(logits: Tensor, sampling: PointSampling) -> Tensor:
    """Return places (B, N, 2), mostly where logits (B, 1, H, W) are closest to 0."""
    batch = len(logits)
    drawn = torch.rand(batch, int(sampling.points * sampling.oversample), 2, device=logits.device)
    kept = int(sampling.points * sampling.uncertain)
    order = values_at(logits, drawn).abs().topk(kept, dim=1, largest=False).indices  # (B, kept)
    chosen = drawn.gather(1, order[..., None].expand(-1, -1, 2))
    rest = torch.rand(batch, sampling.points - kept, 2, device=logits.device)
    return torch.cat((chosen, rest), 1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of 1 - Dice, smoothed by one point, of logits and truth (B, N)."""
    share = logits.sigmoid()
    both = 2 * (share * truth).sum(1) + 1
    return (1 - both / (share.sum(1) + truth.sum(1) + 1)).mean()


def mask_loss(logits: Tensor, truth: Tensor, sampling: PointSampling) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and Dice loss of a batch at mostly uncertain points.

    Parameters
    ----------
    logits : Tensor, shape (B, 1, h, w)
    truth : Tensor of float, shape (B, 1, H, W)
        0 or 1, for the same patches at any resolution.
    sampling : PointSampling
    """
    logits = logits.float()
    places = uncertain_places(logits, sampling)
    found, wanted = values_at(logits, places), values_at(truth, places)
    return F.binary_cross_entropy_with_logits(found, wanted), dice_loss(found, wanted)


_VIEW, _DRAW = 1, 2
_MOST_VALIDATED = 200


@dataclass(frozen=True)
class HintSample:
    """One object in one view, with its first prompts.

    Parameters
    ----------
    key : (int, int)
        Indices of object and view.
    pair : Pair
        Patches and masks.
    hints : PatchHints
    seed : tuple of int
        Seed of the corrections.
    """

    key: tuple[int, int]
    pair: Pair
    hints: PatchHints
    seed: tuple[int, ...]


class TrainedParts(nn.Module):
    """The trained weights of a model, under their names in it.

    Checkpoints contain only these, because a frozen SAM has a hundred times as many.
    """

    def __init__(self, model: WsiSam) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)


class CachedMaps:
    """Cached maps of the encoder's frozen part, in half precision, as memory allows.

    Maps are rounded to half precision also when they are not cached, so that the result of a
    training does not depend on the size of the cache.

    Parameters
    ----------
    model : WsiSam
    device : torch.device
    budget : int
        Size of the cache in bytes.
    """

    def __init__(self, model: WsiSam, device: torch.device, budget: int = BUDGET_BYTES) -> None:
        self._encoder = model.encoder
        self._projects = bool(model.encoder.trained_parameters())
        self._device = device
        self._left = budget
        self._known: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def encoded(self, patches: Sequence[tuple[tuple[object, ...], NDArray[np.uint8]]]) -> Encoded:
        """Return the encoder's maps of patches (side, side, 3), each with its cache key."""
        final, early = zip(*(self._of(key, patch) for key, patch in patches), strict=True)
        maps = torch.cat(final).float(), torch.cat(early).float()
        return self._encoder.encoded(maps) if self._projects else Encoded(*maps)

    def _of(self, key: tuple[object, ...], patch: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        found = self._known.get(key)
        if found is None:
            image = torch.from_numpy(patch).to(self._device).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                maps = self._encoder.frozen_maps(image)
                if not self._projects:
                    encoded = self._encoder.encoded(maps)
                    maps = encoded.final, encoded.early
            found = maps[0].half(), maps[1].half()
            size = sum(m.numel() * 2 for m in found)
            if size <= self._left:
                self._left -= size
                self._known[key] = found
        return found


class HintTask:
    """Training of a `WsiSam` on the objects of a folder.

    Parameters
    ----------
    recipe : HintRecipe
    model : WsiSam
        Its trainable weights are trained.
    objects : Objects
        Training objects.
    validation : Objects or None
        Validation objects.
    device : torch.device
    """

    name = "hints"

    def __init__(
        self,
        recipe: HintRecipe,
        model: WsiSam,
        objects: Objects,
        validation: Objects | None,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.model = model.to(device)
        self.objects = objects
        self.validation = validation
        self.device = device
        self.network = TrainedParts(model)
        self.sampling = PointSampling()
        self._maps = CachedMaps(model, device)
        self._measured_maps = CachedMaps(model, device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one group of all trained weights."""
        rate = self.recipe.training.learning_rate
        return [{"params": list(self.network.parameters()), "lr": rate}]

    def epoch_items(self, epoch: int) -> int:
        """Return the number of objects per epoch."""
        return len(self.objects)

    def digest(self) -> str:
        """Return a digest of objects and initial weights."""
        more = self.validation.digest() if self.validation else ""
        return self.objects.digest() + more + self.model.source_digest

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the names of objects, for messages."""
        return [self.objects.name(index) for index in indices]

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[HintSample, ...]:
        """Return objects in the view of an epoch, with new prompts."""
        return tuple(self._sample(seed, epoch, index) for index in indices)

    def loss(self, batch: Sequence[HintSample]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over resolutions and correction rounds, and its terms."""
        encoded = {name: self._encoded(batch, name) for name in self.model.resolutions}
        truth = {
            name: torch.stack([_as_tensor(_mask_of(s.pair, name)) for s in batch]).to(self.device)
            for name in self.model.resolutions
        }
        hints = [sample.hints for sample in batch]
        masks = self._decoded(encoded, hints)
        total = torch.zeros((), device=self.device)
        parts: dict[str, float] = {}
        rounds = 1 + self.recipe.draws.corrections
        for number in range(rounds):
            if number:
                hints, lr_masks = self._corrected(batch, hints, masks, number)
                masks = self._decoded(encoded, hints, lr_masks)
            for name, logits in masks.by_name.items():
                cross, overlap = mask_loss(logits, truth[name], self.sampling)
                total = total + (cross + overlap) / (rounds * len(truth))
                for part, value in ((f"{name}_bce", cross), (f"{name}_dice", overlap)):
                    parts[part] = parts.get(part, 0.0) + float(value.detach()) / rounds
        return total, parts

    def validate(self) -> dict[str, float]:
        """Return the mean Dice of validation objects in the HR patch, from a box and a click."""
        if self.validation is None:
            return {}
        step = max(1, len(self.validation) // _MOST_VALIDATED)
        boxes: list[float] = []
        clicks: list[float] = []
        for index in range(0, len(self.validation), step):
            pair = self.validation.pair(index, self.model.side)
            box = PatchHints(boxes=(box_of(pair.hr_mask),))
            y, x = innermost(pair.hr_mask)
            click = PatchHints(points=((y, x, True),))
            for hints, scores in ((box, boxes), (click, clicks)):
                scores.append(dice(self.predicted(index, pair, hints), pair.hr_mask))
        return {
            "score": float(np.mean(boxes)),
            "dice_box": float(np.mean(boxes)),
            "dice_click": float(np.mean(clicks)),
        }

    @torch.no_grad()
    def predicted(self, index: int, pair: Pair, hints: PatchHints) -> NDArray[np.bool_]:
        """Return the mask (side, side) predicted from prompts for a validation object."""
        encoded = {
            name: self._measured_maps.encoded([((index, name), _patch_of(pair, name))])
            for name in self.model.resolutions
        }
        masks = self._decoded(encoded, [hints])
        found: NDArray[np.bool_] = (masks.of_patch(self.model.side)[0, 0] > 0).cpu().numpy()
        return found

    def _sample(self, seed: int, epoch: int, index: int) -> HintSample:
        config = self.recipe.objects
        view = epoch % config.views
        of_view = np.random.default_rng((seed, _VIEW, view, index))
        side = self.model.side
        dy, dx = of_view.uniform(-1, 1, 2) * config.shift * side
        pair = self.objects.pair(index, side, (dy, dx))
        turns, mirrored = int(of_view.integers(4)), bool(of_view.integers(2))
        if self.recipe.training.augment != "none":
            pair = pair.flipped(turns=turns, mirrored=mirrored)
        of_draw = np.random.default_rng((seed, _DRAW, epoch, index))
        hints = first_hints(pair.hr_mask, self.recipe.draws, of_draw)
        return HintSample((index, view), pair, hints, (seed, _DRAW, epoch, index))

    def _encoded(self, batch: Sequence[HintSample], name: str) -> Encoded:
        return self._maps.encoded([((*s.key, name), _patch_of(s.pair, name)) for s in batch])

    def _decoded(
        self,
        encoded: dict[str, Encoded],
        hints: Sequence[PatchHints],
        lr_masks: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> DualMasks:
        return self.model.masks_of(encoded.get("hr"), encoded.get("lr"), hints, lr_masks)

    def _corrected(
        self,
        batch: Sequence[HintSample],
        hints: Sequence[PatchHints],
        masks: DualMasks,
        number: int,
    ) -> tuple[list[PatchHints], list[NDArray[np.float32] | None]]:
        """Return prompts with a click in the largest error, and the masks to refine."""
        found = (masks.of_patch(self.model.side)[:, 0].detach() > 0).cpu().numpy()
        hr = None if masks.hr is None else masks.hr[:, 0].detach().float().cpu().numpy()
        lr = None if masks.lr is None else masks.lr[:, 0].detach().float().cpu().numpy()
        new, lr_masks = [], []
        for i, (sample, before) in enumerate(zip(batch, hints, strict=True)):
            random = np.random.default_rng((*sample.seed, number))
            after = corrected(before, found[i], sample.pair.hr_mask, random)
            mask = None if hr is None else hr[i]
            new.append(PatchHints(after.points, after.boxes, mask))
            lr_masks.append(None if lr is None else lr[i])
        return new, lr_masks


def dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks; 1 when both are empty."""
    sizes = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / sizes if sizes else 1.0


def _patch_of(pair: Pair, name: str) -> NDArray[np.uint8]:
    return pair.hr if name == "hr" else pair.lr


def _mask_of(pair: Pair, name: str) -> NDArray[np.bool_]:
    return pair.hr_mask if name == "hr" else pair.lr_mask


def _as_tensor(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(mask)[None].float()
