"""Build the promptable model (points and boxes) that ships with the package.

    python scripts/build_promptable_model.py --data DATA --out hints.safetensors
    python scripts/build_promptable_model.py --data DATA --outlines glas --out own.safetensors

Runs the bundled image tower once on scenes with known objects (`hint_model/scenes.py`), and trains
projection, prompt encoder and dual decoder on its maps. The tower is frozen and not part of the
file. Without --outlines, only data is used whose terms permit shipping the weights. With it, the
folder DATA/glas is used too, whose license permits research only: such weights must not be
distributed. docs/models.md describes DATA.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from bundled_model.mosaics import tiles
from hint_model.crypts import crypts
from hint_model.maps import MapsOfScene, axes_of, maps_of
from hint_model.outlined import GLAS_MPP, glas_pictures, outlined_scenes
from hint_model.scenes import SIDE, collage, fields
from hint_model.training import Settings, Trainee, train

from napari_plimseg.models import (
    RESOLUTIONS,
    BackboneEncoder,
    WsiSam,
    load_backbone,
    save_hint_model,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hint_model.scenes import Scene
    from torch import Tensor

    from napari_plimseg.models import DenseNetBackbone

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SLIDE = ROOT / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"
LICENSE = (
    "BSD-3-Clause; trained on CC-BY 4.0 and CC0 data (Kather et al.; OpenSlide) and LC25000; "
    "research use"
)
OUTLINED_LICENSE = "Research only: trained on GlaS, whose terms forbid to hand it on"
FOR_AXES = 8  # scenes
SHARES = {"crypts": 0.65, "collage": 0.25, "fields": 0.1, "glas": 1.0}
TITLE = "Bundled: points and boxes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training data")
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for caching the maps")
    parser.add_argument("--scenes", type=int, default=120, help="number of collages")
    parser.add_argument("--outlines", choices=["glas"], help="train on these outlines too")
    parser.add_argument(
        "--outlines-only", action="store_true", help="train on nothing but these outlines"
    )
    parser.add_argument("--resolutions", nargs="+", default=RESOLUTIONS, choices=RESOLUTIONS)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # reproducible sums
    options.work.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("bundled")
    axes, sources = maps(backbone, options)
    settings = Settings(
        steps=options.steps, seed=options.seed, resolutions=tuple(options.resolutions)
    )
    begun = time.process_time()

    def on_step(step: int, loss: float) -> None:
        recent.append(loss)
        if step % 25 == 24:
            seconds = time.process_time() - begun
            print(f"step {step + 1}: loss {np.mean(recent[-25:]):.3f}, {seconds:.0f} s", flush=True)

    recent: list[float] = []
    trainee = train([(SHARES[name], found) for name, found in sources.items()], settings, on_step)
    model = assembled(trainee, axes, backbone)
    names = sorted(f"{name}:{scene.source}" for name, found in sources.items() for scene in found)
    save_hint_model(
        options.out, model, title="GlaS: points and boxes" if options.outlines else TITLE,
        license=OUTLINED_LICENSE if options.outlines else LICENSE,
        training_sha256=hashlib.sha256(json.dumps(names).encode()).hexdigest(),
    )  # fmt: skip
    print(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


def maps(
    backbone: DenseNetBackbone, options: argparse.Namespace
) -> tuple[tuple[Tensor, Tensor], dict[str, list[MapsOfScene]]]:
    """Return the axes of the tower's maps, and the scenes of each source, from a cache if any."""

    def random(part: int, number: int = 0) -> np.random.Generator:
        return np.random.default_rng((options.seed, part, number))

    training, _ = tiles(options.data)
    collages = (collage(training, random(0, number)) for number in range(options.scenes))
    axes_file = options.work / "axes.pt"
    if not axes_file.is_file():
        few = [collage(training, random(3, number)) for number in range(FOR_AXES)]
        torch.save(axes_of(backbone, few), axes_file)
    axes = torch.load(axes_file, weights_only=True)

    def kept(name: str, scenes: Iterable[Scene]) -> list[MapsOfScene]:
        file = options.work / f"{name}.pt"
        if not file.is_file():
            made = [maps_of(backbone, axes, scene) for scene in scenes]
            print(f"{len(made)} scenes of {name}", flush=True)
            torch.save([(m.final, m.early, torch.from_numpy(m.ids), m.source) for m in made], file)
        content = torch.load(file, weights_only=True)
        return [MapsOfScene(final, early, ids.numpy(), name) for final, early, ids, name in content]

    sources: dict[str, list[MapsOfScene]] = {}
    if not options.outlines_only:
        found = crypts(options.data / "lc25000", options.scenes * 2 // 3, random(5))
        sources["crypts"] = kept("crypts", found)
        sources["collage"] = kept("collage", collages)
        sources["fields"] = kept("fields", fields(SAMPLE_SLIDE, 0.5, options.work, 16, random(2)))
    if options.outlines:
        pictures = glas_pictures(options.data / "glas", validation=False)
        sources["glas"] = kept("glas", outlined_scenes(pictures, GLAS_MPP, 1, random(1)))
    return axes, sources


def assembled(trainee: Trainee, axes: tuple[Tensor, Tensor], backbone: DenseNetBackbone) -> WsiSam:
    """Return the finished model, with axes and last projection combined."""
    deep, early = axes
    shape = trainee.decoder.shape
    encoder = BackboneEncoder(
        backbone, SIDE, embed_dim=shape.embed_dim, early_block=0, early_dim=len(early)
    )
    with torch.no_grad():
        encoder.project.weight.copy_((trainee.neck.weight[:, :, 0, 0] @ deep)[..., None, None])
        encoder.reduce.weight.copy_(early[..., None, None])
    encoder.norm.load_state_dict(trainee.norm.state_dict())
    return WsiSam(
        encoder, trainee.decoder, weights_name=TITLE, source="bundled",
        source_digest=backbone.identity, mpp=1.0, draws_hints=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
