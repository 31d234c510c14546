"""The bundled model's text tower: a MiniLM sentence encoder and an adapter.

In plain torch, because transformers is an optional dependency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


CONTEXT_LENGTH = 48
"""Longest prompt in tokens; longer ones are cut."""


class MiniLm(nn.Module):
    """BERT with six layers of width 384, mean-pooled (all-MiniLM-L6-v2, Apache-2.0).

    Parameters
    ----------
    vocab_size : int
        Rows of the word embedding.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        width: int = 384,
        heads: int = 12,
        layers: int = 6,
        feedforward: int = 1536,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(CONTEXT_LENGTH, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, feedforward, dropout=0.0, activation="gelu",
                layer_norm_eps=1e-12, batch_first=True,
            )
            for _ in range(layers)
        )  # fmt: skip

    def forward(self, token_ids: Tensor, is_token: Tensor) -> Tensor:
        """Return sentence vectors of unit length.

        Parameters
        ----------
        token_ids : Tensor of int64, shape (N, T)
        is_token : Tensor of bool, shape (N, T)
            False for padding.

        Returns
        -------
        Tensor of float32, shape (N, 384)
        """
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        x = self.norm(self.words(token_ids) + self.positions(positions))  # (N, T, 384)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~is_token)
        weight = is_token[..., None].to(x.dtype)
        return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)


class TextAdapter(nn.Module):
    """Maps a sentence vector to the space shared with the image tower."""

    def __init__(self, width: int = 384, hidden: int = 512, embedding_size: int = 256) -> None:
        super().__init__()
        self.straight = nn.Linear(width, embedding_size)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, embedding_size)

    def forward(self, sentences: Tensor) -> Tensor:
        """Return unit vectors (N, D) of sentence vectors (N, 384)."""
        curved = self.narrow(F.gelu(self.widen(sentences)))
        return F.normalize(self.straight(sentences) + curved, dim=-1)


class TextTower(nn.Module):
    """Tokenizer, MiniLM and adapter: strings to unit vectors (N, D)."""

    def __init__(self, tokenizer_file: str | Path, embedding_size: int = 256) -> None:
        from tokenizers import Tokenizer

        super().__init__()
        self.minilm = MiniLm()
        self.adapter = TextAdapter(embedding_size=embedding_size)
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.enable_truncation(CONTEXT_LENGTH)
        self._tokenizer.enable_padding()

    def sentences(self, texts: Sequence[str]) -> Tensor:
        """Return the sentence vectors (N, 384) before the adapter."""
        encoded = self._tokenizer.encode_batch(list(texts))
        token_ids = torch.tensor([e.ids for e in encoded])
        is_token = torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)
        device = self.minilm.norm.weight.device
        vectors: Tensor = self.minilm(token_ids.to(device), is_token.to(device))
        return vectors

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        embedded: Tensor = self.adapter(self.sentences(texts))
        return embedded
