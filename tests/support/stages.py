"""Small synthetic tissue for the stages: two kinds that colour and texture tell apart."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from napari_plimseg.models.encoders.loading import load_backbone, load_matcher
from napari_plimseg.tissue import TissueClass, TissueClasses
from plimseg_training.config.recipe import Recipe
from plimseg_training.data.tagged_folder import TaggedFolder, TaggedImage
from plimseg_training.stages.stage1 import Encoders

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.models.encoders.base import Backbone, Matcher

CLASSES = TissueClasses(
    (
        TissueClass("tumour", (200, 50, 50), ("colorectal adenocarcinoma epithelium",)),
        TissueClass("fat", (0, 200, 0), ("adipose tissue",)),
    ),
    has_background=False,
)
WITH_BACKGROUND = TissueClasses(
    (*CLASSES, TissueClass("background", (255, 255, 255))), has_background=True
)


def tissue(kinds: np.ndarray, seed: int) -> np.ndarray:
    """Return RGB of a map of kinds: 0 is dark and full of nuclei, 1 pale, 2 empty glass."""
    random = np.random.default_rng(seed)
    height, width = kinds.shape
    nuclei = np.kron(random.random((-(-height // 4), -(-width // 4))) < 0.5, np.ones((4, 4)))
    dark = np.where(nuclei[:height, :width, None] > 0, (90, 50, 130), (190, 110, 180))
    pale = np.broadcast_to((238, 220, 232), dark.shape)
    glass = np.broadcast_to((250, 250, 250), dark.shape)
    rgb = np.choose(kinds[..., None], [dark, pale, glass])
    return np.clip(rgb + random.normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)


def halves(size: tuple[int, int], tags: tuple[int, int]) -> np.ndarray:
    """Return a map of kinds: one kind everywhere, or the first left and the second right."""
    kinds = np.zeros(size, np.uint8)
    kinds[:, size[1] // 2 :] = 1
    return kinds if tags == (1, 1) else np.full(size, tags[1], np.uint8)


def named_tissue(root: Path, size: tuple[int, int] = (64, 64)) -> Path:
    """Write eight patches of four slides with tags in their names."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(8):
        tags = ((1, 0), (0, 1), (1, 1), (1, 1))[i % 4]
        rgb = tissue(halves(size, tags), i)
        Image.fromarray(rgb).save(root / f"{100 + i // 2}-{i}-0-[{tags[0]} {tags[1]}].png")
    return root


def windowed_tissue(
    root: Path,
    count: int = 4,
    size: tuple[int, int] = (64, 96),
    classes: TissueClasses = CLASSES,
) -> TaggedFolder:
    """Write images with a window left, right and in the middle, and masks of their truth."""
    root.mkdir(parents=True, exist_ok=True)
    side = size[0]
    windows = np.array(
        [(0, 0, side, side // 2), (0, size[1] - 40, side, 40), (8, size[1] // 2 - 20, 40, 40)]
    )
    tags = np.array([(1, 0), (0, 1), (1, 1)])
    images = []
    for i in range(count):
        kinds = halves(size, (1, 1))
        path, truth = root / f"image{i}.png", root / f"truth{i}.png"
        Image.fromarray(tissue(kinds, i)).save(path)
        Image.fromarray(kinds + 1).save(truth)
        images.append(TaggedImage(path, size, windows, tags, f"slide{i}", truth))
    return TaggedFolder(root, "windows", classes, tuple(images), 0.5, {1: 1, 2: 2})


def recipe(root: Path | None = None, *settings: str, **parts: Any) -> Recipe:
    """Return a recipe that trains for a moment."""
    stage = {"batch_size": 2, "learning_rate": 2e-3, "warm_up_fraction": 0.0}
    data: dict[str, Any] = {"classes": CLASSES.to_dict(), "mpp": 0.5, "validation_fraction": 0.25}
    if root is not None:
        data["train"] = str(root)
    base: dict[str, Any] = {
        "name": "tiny",
        "data": data,
        "model": {"width": 16},
        "matching": {"warm_up_epochs": 0},
        # after a moment of training the network is sure of nothing
        "pseudo_masks": {"ignore_margin": 0.0},
        "stage1": stage | {"epochs": 1},
        "stage2": stage | {"epochs": 1},
        "device": "cpu",
    }
    return Recipe.from_dict(base | parts).override(list(settings))


_backbone_read_once = functools.cache(load_backbone)
_matcher_read_once = functools.cache(load_matcher)


def backbone(name: str, *, seed: int = 0) -> Backbone:
    """Load a backbone; the bundled one is read from its file once, and each caller gets a copy."""
    return copy.deepcopy(_backbone_read_once(name, seed=seed))


def matcher(name: str, *, seed: int = 0) -> Matcher:
    """Load a matcher likewise."""
    return copy.deepcopy(_matcher_read_once(name, seed=seed))


def encoders(chosen: Recipe) -> Encoders:
    """Return copies of the bundled networks: trainings change them."""
    name = "random" if chosen.matching.matcher == "random" else "bundled"
    return Encoders.of(backbone(chosen.model.backbone), matcher(name), chosen, torch.device("cpu"))


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a network's weights and buffers."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether weights are the same to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
