"""Training of a promptable model on maps of scenes: boxes, points and correcting clicks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from hint_model.maps import EARLY, FINAL
from hint_model.scenes import SIDE
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models import (
    GUIDES,
    RESOLUTIONS,
    DecoderShape,
    DualDecoder,
    Encoded,
    LayerNorm2d,
    PatchHints,
    logits_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hint_model.maps import MapsOfScene
    from numpy.typing import NDArray

SMALLEST = 40  # pixels of the ids: about 160 um2 at 1 um/px
LARGEST_SHARE = 0.85  # of the patch's side that a boxed object may span
PER_SCENE = 4  # objects of one scene in a batch
JITTERS = (0.0, 0.1, 0.2)


@dataclass(frozen=True)
class Settings:
    """Settings of the training.

    Parameters
    ----------
    width : int
        Channels of the image's map in the decoder.
    steps, batch : int
        Updates, and objects in each.
    rate : float
        Highest learning rate.
    resolutions : tuple of str
        Both, or one for the ablation.
    seed : int
    """

    width: int = 96
    steps: int = 3000
    batch: int = 8
    rate: float = 2e-3
    resolutions: tuple[str, ...] = RESOLUTIONS
    seed: int = 0

    @property
    def shape(self) -> DecoderShape:
        """Sizes of the decoder."""
        return DecoderShape(
            early_channels=4 * EARLY, embed_dim=self.width, early_scale=2, heads=4, mlp_dim=256,
            more_masks=0, guides=GUIDES,
        )  # fmt: skip


class Trainee(nn.Module):
    """The trained parts: last projection of the deep map, its norm, and the decoder."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.neck = nn.Conv2d(FINAL, settings.width, 1, bias=False)
        self.norm = LayerNorm2d(settings.width)
        self.decoder = DualDecoder(settings.shape, settings.resolutions)

    def encoded(self, final: Tensor, early: Tensor) -> Encoded:
        """Return the output of the finished model's encoder."""
        return Encoded(self.norm(self.neck(final.float())), F.pixel_unshuffle(early.float(), 2))


@dataclass(frozen=True)
class Example:
    """One object in one scene, with a symmetry applied.

    `final` (2, FINAL, h, w), `early` (2, EARLY, 4 h, 4 w); `fine` and `coarse` (4 h, 4 w) are the
    share of each mask pixel that lies inside; `inside` (SIDE / 2, SIDE / 2) is the object in the
    fine patch; `whole` says whether all of it lies there.
    """

    final: Tensor
    early: Tensor
    fine: NDArray[np.float32]
    coarse: NDArray[np.float32]
    inside: NDArray[np.bool_]
    whole: bool


def objects_of(scene: MapsOfScene) -> list[tuple[int, int]]:
    """Return (layer, id) of the objects with a large enough part in the fine patch."""
    quarter = SIDE // 4
    middle = scene.ids[:, quarter:-quarter, quarter:-quarter]
    found = []
    for layer, ids in enumerate(middle):
        counts = np.bincount(ids.ravel(), minlength=256)
        most = 0.75 * ids.size
        found += [
            (layer, int(i)) for i in np.flatnonzero(counts) if i and SMALLEST <= counts[i] < most
        ]
    return found


def example_of(scene: MapsOfScene, layer: int, number: int, symmetry: int) -> Example:
    """Return one object of a scene, rotated and mirrored."""
    turns, mirrored = symmetry % 4, symmetry >= 4

    def moved(maps: Tensor) -> Tensor:
        turned = torch.rot90(maps, turns, (-2, -1))
        return turned.flip(-1) if mirrored else turned

    is_object = moved(torch.from_numpy(scene.ids[layer] == number))  # (SIDE, SIDE)
    quarter = SIDE // 4
    inside = is_object[quarter:-quarter, quarter:-quarter]
    fine = F.avg_pool2d(inside[None].float(), 2)[0]
    coarse = F.avg_pool2d(is_object[None].float(), 4)[0]
    edge = inside[[0, -1]].any() or inside[:, [0, -1]].any()
    return Example(
        moved(scene.final), moved(scene.early), fine.numpy(), coarse.numpy(), inside.numpy(),
        not bool(edge),
    )  # fmt: skip


def first_hints(example: Example, random: np.random.Generator) -> PatchHints:
    """Return a box, exact or not, or points, or both, as a person may place them."""
    inside = example.inside
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    y0, x0, y1, x1 = rows[0] * 2.0, columns[0] * 2.0, rows[-1] * 2.0 + 2, columns[-1] * 2.0 + 2
    height, width = y1 - y0, x1 - x0
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    points: list[tuple[float, float, bool]] = []
    may_box = example.whole and max(height, width) <= LARGEST_SHARE * SIDE
    if may_box and random.random() < 0.6:
        boxes = (jittered((y0, x0, y1, x1), float(random.choice(JITTERS)), random),)
    if not boxes or random.random() < 0.2:
        points = [(*place_in(inside, random), True)]
        for _ in range(int(random.integers(0, 3))):
            points.append((*place_in(inside, random), True))
    if random.random() < 0.25:
        near = ndimage.binary_dilation(inside, iterations=12) & ~inside
        if near.any():
            points.append((*place_in(near, random), False))
    return PatchHints(tuple(points), boxes)


def jittered(
    box: tuple[float, float, float, float],
    amount: float,
    random: np.random.Generator,
    size: tuple[int, int] = (SIDE, SIDE),
) -> tuple[float, float, float, float]:
    """Return a box with each side moved by up to `amount` of its length, within `size`."""
    y0, x0, y1, x1 = box
    moves = random.uniform(-amount, amount, 4) * (y1 - y0, x1 - x0, y1 - y0, x1 - x0)
    a, b, c, d = (float(v) for v in np.clip(np.add(box, moves), 0, (*size, *size)))
    return a, b, max(c, a + 4), max(d, b + 4)


def place_in(region: NDArray[np.bool_], random: np.random.Generator) -> tuple[float, float]:
    """Return a position (y, x) in fine pixels in the deeper half of a region (2 px per cell)."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= depth.max() * random.uniform(0.2, 0.8))
    chosen = int(random.integers(len(rows)))
    return 2.0 * rows[chosen] + 1, 2.0 * columns[chosen] + 1


def correction(
    wrong_in: NDArray[np.bool_], wrong_out: NDArray[np.bool_], step: float
) -> tuple[float, float, bool] | None:
    """Return the click of a person: in the middle of the largest error.

    Parameters
    ----------
    wrong_in, wrong_out : ndarray of bool
        False negatives and false positives.
    step : float
        Pixels of the patch per pixel of these.
    """
    best: tuple[float, float, float, bool] | None = None
    for region, positive in ((wrong_in, True), (wrong_out, False)):
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        deepest = float(depth.max())
        if deepest > 0 and (best is None or deepest > best[0]):
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            best = (deepest, (float(y) + 0.5) * step, (float(x) + 0.5) * step, positive)
    return None if best is None else best[1:]


def loss_of(logits: Tensor, truth: Tensor) -> Tensor:
    """Return BCE, most of it near the object, plus the Dice loss; of (B, H, W)."""
    rows = F.max_pool2d(
        truth[:, None].ceil(), (17, 1), 1, (8, 0)
    )  # rows, then columns, is far faster
    near = F.max_pool2d(rows, (1, 17), 1, (0, 8))[:, 0]
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    close, far = ((each * w).sum((1, 2)) / w.sum((1, 2)).clamp_min(1) for w in (near, 1 - near))
    chance = logits.sigmoid()
    both = (chance * truth).sum((1, 2))
    dice = 1 - (2 * both + 1) / (chance.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return (close + far / 2 + 2 * dice).mean()


def train(
    sources: Sequence[tuple[float, Sequence[MapsOfScene]]],
    settings: Settings,
    on_step: Callable[[int, float], None] | None = None,
) -> Trainee:
    """Train on scenes of several sources.

    Parameters
    ----------
    sources : sequence of (float, sequence of MapsOfScene)
        Share of the examples from each source, and its scenes.
    settings : Settings
    on_step : callable, optional
        Called with the number of the step and its loss.
    """
    torch.manual_seed(settings.seed)
    random = np.random.default_rng(settings.seed)
    trainee = Trainee(settings)
    optimizer = torch.optim.AdamW(trainee.parameters(), lr=settings.rate, weight_decay=1e-3)
    shares = np.array([share for share, _ in sources])
    known = [[(scene, objects_of(scene)) for scene in scenes] for _, scenes in sources]
    known = [[pair for pair in scenes if pair[1]] for scenes in known]
    for step in range(settings.steps):
        rate = min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * max(rate, 0.01)
        examples: list[Example] = []
        while len(examples) < settings.batch:
            scenes = known[int(random.choice(len(known), p=shares / shares.sum()))]
            scene, objects = scenes[int(random.integers(len(scenes)))]
            symmetry = int(random.integers(8))
            for _ in range(PER_SCENE):
                layer, number = objects[int(random.integers(len(objects)))]
                examples.append(example_of(scene, layer, number, symmetry))
        loss = _step(trainee, examples, random)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step, float(loss.detach()))
    return trainee.eval()


def _step(trainee: Trainee, examples: list[Example], random: np.random.Generator) -> Tensor:
    final = torch.stack([e.final for e in examples], 1)  # (2, B, FINAL, h, w)
    early = torch.stack([e.early for e in examples], 1)
    hr, lr = (trainee.encoded(final[i], early[i]) for i in (0, 1))
    hints = [first_hints(example, random) for example in examples]
    masks: list[NDArray[np.float32] | None] = [None] * len(examples)
    if random.random() < 0.3:
        hints, masks = _corrected(trainee, hr, lr, examples, hints, random)
    found, quality = decode(trainee.decoder, hr, lr, hints, masks)
    truths = {
        "hr": torch.from_numpy(np.stack([e.fine for e in examples])),
        "lr": torch.from_numpy(np.stack([e.coarse for e in examples])),
    }
    losses = [loss_of(logits[:, 0], truths[name]) for name, logits in found.items()]
    with torch.no_grad():
        finest = next(iter(found))
        inside, true = found[finest][:, 0] > 0, truths[finest] > 0.5
        overlap = (inside & true).sum((1, 2)) / (inside | true).sum((1, 2)).clamp_min(1)
    return torch.stack(losses).mean() + F.mse_loss(quality, overlap)


@torch.no_grad()
def _corrected(
    trainee: Trainee,
    hr: Encoded,
    lr: Encoded,
    examples: list[Example],
    hints: list[PatchHints],
    random: np.random.Generator,
) -> tuple[list[PatchHints], list[NDArray[np.float32] | None]]:
    """Return prompts with one more click, and half the time the mask that it corrects."""
    masks, _ = decode(trainee.decoder, hr, lr, hints, [None] * len(hints))
    corrected: list[PatchHints] = []
    coarse_masks: list[NDArray[np.float32] | None] = []
    for index, (example, hint) in enumerate(zip(examples, hints, strict=True)):
        logits = {name: found[index, 0].numpy() for name, found in masks.items()}
        taken = of_fine(logits) > 0
        click = correction((example.fine > 0.5) & ~taken, (example.fine <= 0.5) & taken, 4)
        points = hint.points if click is None else (*hint.points, click)
        refined = random.random() < 0.5 and len(logits) == 2
        known = {name: logits_of(found > 0) for name, found in logits.items()}
        corrected.append(PatchHints(points, hint.boxes, known["hr"] if refined else None))
        coarse_masks.append(known["lr"] if refined else None)
    return corrected, coarse_masks


def of_fine(logits: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the logits (4 h, 4 w) of the fine patch, or else of the coarse one's center."""
    if "hr" in logits:
        return logits["hr"]
    quarter = len(logits["lr"]) // 4
    middle = logits["lr"][quarter:-quarter, quarter:-quarter]
    return middle.repeat(2, 0).repeat(2, 1)


def decode(
    decoder: DualDecoder,
    hr: Encoded,
    lr: Encoded,
    hints: Sequence[PatchHints],
    coarse_masks: Sequence[NDArray[np.float32] | None],
) -> tuple[dict[str, Tensor], Tensor]:
    """Return mask logits (B, 1, 4 h, 4 w) of a decoder's resolutions, and the expected overlap."""
    masks = decoder.masks_of(hr, lr, hints, coarse_masks, side=SIDE, draws_hints=True)
    found = {name: getattr(masks, name) for name in decoder.resolutions}
    return found, masks.quality
