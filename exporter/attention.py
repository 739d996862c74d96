"""Multi-head attention of the PyTorch model. Letters as in ``exporter.model``."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.model_config import ModelConfig


class KeysValues(NamedTuple):
    """Projected keys and values of one attention, each (B, H, S, K)."""

    keys: Tensor
    values: Tensor


class PastKeysValues:
    """Keys and values of the positions so far, in memory for ``capacity`` of them: appending copies only the new.

    Heads, their size and the type are those of ``like`` (B, H, S, K).
    """

    def __init__(self, like: Tensor, *, rows: int, capacity: int) -> None:
        self._keys = like.new_empty(rows, like.shape[1], capacity, like.shape[3])
        self._values = torch.empty_like(self._keys)
        self._length = 0

    def append(self, new: KeysValues) -> KeysValues:
        """Store ``new`` (B, H, T, K) behind the past and return all of it."""
        start, self._length = self._length, self._length + new.keys.shape[2]
        self._keys[:, :, start : self._length] = new.keys
        self._values[:, :, start : self._length] = new.values
        return KeysValues(self._keys[:, :, : self._length], self._values[:, :, : self._length])

    def keep(self, rows: Tensor) -> None:
        """Go on with ``rows`` (N) of the batch only, some of them perhaps more than once."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for stored in (self._keys, self._values):
            stored[moved, :, : self._length] = stored[rows[moved], :, : self._length]
        self._keys, self._values = self._keys[: len(rows)], self._values[: len(rows)]


class Attended(NamedTuple):
    """What an attention or a layer returns: states (B, T, D) and, where asked for, its weights (B, H, T, S)."""

    states: Tensor
    weights: Tensor | None


class Attention(nn.Module):
    """Multi-head scaled dot-product attention with biased projections.

    ``fused`` False computes the products one by one where no weights are asked for: on a CPU that is several times
    faster than PyTorch's fused kernel when training on short sentences.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.head_size = config.head_size
        self.fused = True
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key = nn.Linear(config.d_model, config.d_model)
        self.value = nn.Linear(config.d_model, config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)

    def split(self, states: Tensor) -> Tensor:
        """Turn (B, T, D) into (B, H, T, K)."""
        batch, length, _ = states.shape
        return states.reshape(batch, length, self.heads, self.head_size).transpose(1, 2)

    def project(self, states: Tensor) -> KeysValues:
        """Return the keys and values of the attended ``states`` (B, S, D)."""
        return KeysValues(self.split(self.key(states)), self.split(self.value(states)))

    def forward(
        self,
        states: Tensor,
        attended: KeysValues,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        return_weights: bool = False,
    ) -> Attended:
        """Attend from ``states`` (B, T, D) to ``attended``; ``mask`` (B, 1, 1|T, S) is True where a key may be seen."""
        query = self.split(self.query(states))
        weights = None
        if return_weights or not self.fused:
            weights = self.weights(query, attended.keys, mask, causal=causal)
            mixed = weights.to(attended.values.dtype) @ attended.values
        else:
            mixed = F.scaled_dot_product_attention(query, *attended, attn_mask=mask, is_causal=causal)
        return Attended(self.output(mixed.transpose(1, 2).flatten(2)), weights if return_weights else None)

    def weights(self, query: Tensor, keys: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Return the softmax weights (B, H, T, S) of ``query`` over ``keys``, both (B, H, length, K)."""
        scores = (query @ keys.transpose(-1, -2)).float() / math.sqrt(self.head_size)
        if causal:
            visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            mask = visible if mask is None else mask & visible
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=-1)
