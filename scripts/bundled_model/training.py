"""Train the projection of the image tower, the text adapter and the scale of their cosine.

The trunk and the sentence encoder are frozen. A step draws vectors of pixels, each with a
distribution over concepts, and *episodes*: sets of two to eleven captions, like the classes that a
user might type. The target of a pixel in an episode is the fit of each caption to its concepts, and
the loss is the cross-entropy of softmax(scale * cosine) with this target. In this way, captions
of several concepts ("gland", "tissue") are learned together with specific ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from bundled_model.captions import CAPTIONS, CONCEPTS, TEMPLATES, phrases_and_fits
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models import TextAdapter

if TYPE_CHECKING:
    from bundled_model.features import LabeledVectors

    from napari_plimseg.models import TextTower

EMBEDDING_SIZE = 256
STEPS = 1000
BATCH = 256
EPISODES = 6
LEARNING_RATE = 2e-3
FEATURE_DROPOUT = 0.2
SENTENCE_NOISE = 0.02
LARGEST_SCALE = 40.0
COLORECTAL_CONCEPTS = 9


class Captions:
    """Sentence vectors of every caption in every template, and their fits to concepts."""

    def __init__(self, tower: TextTower) -> None:
        phrases, self.fits = phrases_and_fits(CAPTIONS)  # (P, 15)
        with torch.no_grad():
            self.sentences = torch.stack(
                [tower.sentences([t.format(p) for p in phrases]) for t in TEMPLATES], 1
            )  # (P, templates, 384)
        specific = (self.fits > 0).sum(1) <= 2
        self.by_concept = [
            torch.nonzero(specific & (self.fits[:, k] == 1)).flatten() for k in range(len(CONCEPTS))
        ]

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return one noisy sentence vector per caption, (P, 384), each in a random template."""
        count, templates, width = self.sentences.shape
        template = torch.randint(templates, (count,), generator=generator)
        vectors = self.sentences[torch.arange(count), template]
        noise = torch.randn(count, width, generator=generator) * SENTENCE_NOISE
        return F.normalize(vectors + noise, dim=-1)

    def episode(self, generator: torch.Generator) -> Tensor:
        """Return the captions of one episode: a full set of classes, or any two to eleven."""
        if torch.rand((), generator=generator) < 0.6:
            concepts = len(CONCEPTS) if torch.rand((), generator=generator) < 0.3 else None
            one_each = []
            for captions in self.by_concept[: concepts or COLORECTAL_CONCEPTS]:
                one_each.append(captions[torch.randint(len(captions), (), generator=generator)])
            return torch.stack(one_each).unique()
        size = int(torch.randint(2, 12, (), generator=generator))
        return torch.randperm(len(self.fits), generator=generator)[:size]


def train(
    data: LabeledVectors, tower: TextTower, seed: int = 0
) -> tuple[Tensor, Tensor, TextAdapter, float]:
    """Return the projection's weight (256, 2560) and bias (256,), the adapter and log scale."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    captions = Captions(tower)
    sample = data.vectors[::7].float()
    mean, spread = sample.mean(0), sample.std(0) + 1e-3
    project = nn.Linear(data.vectors.shape[1], EMBEDDING_SIZE)
    adapter = TextAdapter(embedding_size=EMBEDDING_SIZE)
    log_scale = nn.Parameter(torch.tensor(2.5))
    optimizer = torch.optim.AdamW(
        [
            {"params": project.parameters(), "weight_decay": 1e-2},
            {"params": adapter.parameters(), "weight_decay": 5e-2},
            {"params": [log_scale], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
    for step in range(STEPS):
        rows = torch.multinomial(data.weights, BATCH, replacement=True, generator=generator)
        features = F.dropout((data.vectors[rows].float() - mean) / spread, FEATURE_DROPOUT)
        vectors = F.normalize(project(features), dim=-1)  # (B, 256)
        texts = adapter(captions.draw(generator))  # (P, 256)
        logits = vectors @ texts.T * log_scale.exp().clamp(max=LARGEST_SCALE)  # (B, P)
        fits = data.concepts[rows] @ captions.fits.T  # (B, P)
        loss = logits.new_zeros(())
        for _ in range(EPISODES):
            chosen = captions.episode(generator)
            target = fits[:, chosen]
            total = target.sum(1, keepdim=True)
            # a pixel that no caption of the episode fits has no target
            target = torch.where(total > 0.1, target / total.clamp_min(0.1), 0.0)
            loss = loss - (target * logits.index_select(1, chosen).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        (loss / EPISODES).backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {float(loss.detach()) / EPISODES:.3f}", flush=True)
    with torch.no_grad():
        weight = project.weight / spread
        bias = project.bias - weight @ mean
    scale = log_scale.detach().clamp(max=float(torch.tensor(LARGEST_SCALE).log()))
    return weight, bias, adapter.eval().requires_grad_(False), float(scale)
