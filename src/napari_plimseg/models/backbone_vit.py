"""Vision transformers as backbones: tokens of several blocks, normalised, as maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_plimseg.models.backbones import Backbone
from napari_plimseg.models.vit_tokens import Grid, as_map, clip_tokens, timm_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

TAPS = 4
MPP = 0.5
"""Pathology encoders were trained on patches near 20x; their files don't say."""


def taps(depth: int) -> tuple[int, ...]:
    """Return the blocks whose tokens are used: 2, 5, 8 and 11 of 12."""
    stages = min(TAPS, depth)
    return tuple(round(depth * (i + 1) / stages) - 1 for i in range(stages))


class TransformerBackbone(Backbone):
    """A transformer's tokens after four of its blocks, all at the stride of its patch.

    Parameters
    ----------
    network : torch.nn.Module
        open_clip's `VisionTransformer`, or timm's that accepts any size; what comes after its
        last norm is taken off.
    name, digest, spec
        As in `Backbone`; the spec holds `mean` and `std`.
    """

    def __init__(self, network: Any, *, name: str, digest: str, spec: Mapping[str, Any]) -> None:
        from_clip = hasattr(network, "transformer")
        blocks = network.transformer.resblocks if from_clip else network.blocks
        norm = network.ln_post if from_clip else network.norm
        patch = network.patch_size if from_clip else network.patch_embed.patch_size
        last = taps(len(blocks))
        super().__init__(
            name=name, spec=spec, digest=digest, mpp=MPP, mean=spec["mean"], std=spec["std"],
            block_channels=[network.conv1.out_channels if from_clip else network.embed_dim]
            * len(last),
            strides=[int(patch[0])] * len(last),
        )  # fmt: skip
        if from_clip:
            network.proj = None
        self.network = network
        self._tokens = clip_tokens if from_clip else timm_tokens
        starts = (0, *(tap + 1 for tap in last[:-1]))
        self._chains = [
            list(blocks[start : end + 1]) for start, end in zip(starts, last, strict=True)
        ]
        self._norm = [norm]  # in a list, so that it is not registered twice
        self.set_trainable("none")
        self.eval()

    def stage(self, index: int, x: Any) -> tuple[Tensor, tuple[Tensor, Grid]]:
        """Return the normalised tokens after a tapped block as a map, and the tokens."""
        tokens, grid = self._tokens(self.network, x) if index == 0 else x
        for block in self._chains[index]:
            tokens = block(tokens)
        return as_map(self._norm[0](tokens), grid), (tokens, grid)

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights of a stage's blocks.

        The embedding belongs to the first stage and the norm to the last.
        """
        chains = {id(p) for chain in self._chains for block in chain for p in block.parameters()}
        norm = {id(p) for p in self._norm[0].parameters()}
        found = [p for block in self._chains[index] for p in block.parameters()]
        if index == 0:
            found += [
                p for p in self.network.parameters() if id(p) not in chains and id(p) not in norm
            ]
        if index == len(self._chains) - 1:
            found += list(self._norm[0].parameters())
        return found
