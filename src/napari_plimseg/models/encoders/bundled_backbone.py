"""The bundled model's image tower as a backbone, and the whole model as a matcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.base import Backbone, Matcher
from napari_plimseg.models.encoders.bundled import BundledEncoder
from napari_plimseg.models.encoders.cards import RANDOM, bundled_folder
from napari_plimseg.models.encoders.densenet import DenseNet121
from napari_plimseg.models.weights import weights_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MPP = 0.5


class DenseNetBackbone(Backbone):
    """DenseNet121 with block 4 dilated: 256, 512, 1024 and 1024 channels at 4, 8, 16 and 16.

    Parameters
    ----------
    name : str
    trunk : DenseNet121, optional
        With its weights; it is not copied. A network without meaningful weights when None.
    digest : str
        Of the weights.
    """

    SPEC: ClassVar[dict[str, Any]] = {"architecture": "densenet121", "last_dilation": 2}

    def __init__(self, *, name: str, trunk: DenseNet121 | None = None, digest: str = "") -> None:
        super().__init__(
            name=name, spec=self.SPEC, digest=digest, mpp=MPP,
            block_channels=(256, 512, 1024, 1024), strides=(4, 8, 16, 16),
        )  # fmt: skip
        self.trunk = trunk or DenseNet121(last_dilation=2)
        self.set_trainable("none")
        self.eval()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> DenseNetBackbone:
        """Return the network of a model file, without meaningful weights.

        Raises
        ------
        ModelError
            When it is a DenseNet that this version does not have.
        """
        if dict(spec) != cls.SPEC:
            raise ModelError("its image encoder is a DenseNet that this version can't build")
        return cls(name=RANDOM)

    def stage(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activated map of a dense block and the input of the next one."""
        if index == 0:
            x = F.max_pool2d(self.trunk.stem(x).relu_(), 3, 2, 1)
        found = self.trunk.blocks[index](x)
        if index < 3:
            activated, following = self.trunk.transitions[index](found)
            return activated, following
        last: Tensor = self.trunk.last(found)
        return last, last

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights of a dense block and its transition; of the first also the stem's."""
        after = self.trunk.transitions[index] if index < 3 else self.trunk.last
        modules: list[nn.Module] = [self.trunk.blocks[index], after]
        if index == 0:
            modules.insert(0, self.trunk.stem)
        return [parameter for module in modules for parameter in module.parameters()]


def bundled_backbone() -> DenseNetBackbone:
    """Return a new copy of the shipped image tower's trunk."""
    trunk = BundledEncoder(bundled_folder()).network.visual.trunk
    return DenseNetBackbone(name="bundled", trunk=trunk, digest=weights_digest(trunk))


def random_backbone(seed: int) -> DenseNetBackbone:
    """Return the same network with initial weights."""
    trunk = DenseNet121(last_dilation=2)
    initialize(trunk, seed)
    return DenseNetBackbone(name=RANDOM, trunk=trunk, digest=weights_digest(trunk))


class BundledMatcher(Matcher):
    """The bundled image-text model.

    It was trained on dense vectors and has no pooled one. The vector of an image is the projection
    of the mean of its fused blocks. As the projection is linear, this is the mean of the dense
    vectors before they are normalized.

    Parameters
    ----------
    random_seed : int, optional
        Gives the image tower initial weights, as a control; the text tower stays.
    """

    def __init__(self, random_seed: int | None = None) -> None:
        super().__init__()
        self.name = "bundled" if random_seed is None else "random"
        encoder = BundledEncoder(bundled_folder())
        self.network = encoder.network
        if random_seed is not None:
            initialize(self.network.visual, random_seed)
        self.mpp, self.logit_scale = encoder.mpp, encoder.logit_scale
        self.embedding_size = self.network.visual.project.out_channels
        self.requires_grad_(False)
        self.eval()

    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, ceil(H / 16), ceil(W / 16))."""
        vectors: Tensor = self.network.visual(_padded(images))
        return vectors

    def dense_of_blocks(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return what `dense` does, from the maps of the bundled backbone for the same images.

        Only the last three are used. Both have the same trunk, whose maps cost a hundred times as
        much as the rest. A backbone's maps end with the image, so vectors at its lower and right
        edges differ a little.
        """
        second, third, fourth = blocks[-3:]
        fused = torch.cat((F.avg_pool2d(second, 2, ceil_mode=True), third, fourth), 1)
        return F.normalize(self.network.visual.project(fused), dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of whole images."""
        fused = self.network.visual.fused(_padded(images)).mean((2, 3), keepdim=True)
        return F.normalize(self.network.visual.project(fused).flatten(1), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        vectors: Tensor = self.network.text(texts)
        return vectors


def _padded(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % 16, 0, -height % 16), mode="reflect")


@torch.no_grad()
def initialize(network: nn.Module, seed: int) -> None:
    """Initialize convolutions as in He et al. 2015, scales with 1 and shifts with 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("scale") else 0.0)
