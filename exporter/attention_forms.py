"""How a graph writes its attention: as fused nodes, or unfused as products and a softmax for comparison."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from exporter import symbolic

Cache = tuple[Tensor, Tensor]


class AttentionForm(Protocol):
    """The three attentions of a translation model. Letters as in ``exporter.decoder_graph``."""

    def encoder(self, packed: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
        """Self-attention over packed queries, keys and values (B, S, 3*D); returns (B, S, D)."""

    def causal(self, packed: Tensor, past: Cache, past_lengths: Tensor, *, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """Self-attention of one new position (R, 1, 3*D); returns (R, 1, D) and the caches with it written."""

    def cross(self, query: Tensor, past: Cache, lengths: Tensor, *, heads: int, key_heads: int) -> Tensor:
        """Attention of queries (R, 1, heads*K) to complete keys and values (R, key_heads, S, K)."""


class FusedAttention:
    """One node per attention."""

    def encoder(self, packed: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
        """See ``AttentionForm``."""
        query, key, value = packed.chunk(3, dim=-1)
        return symbolic.multi_head_attention(query, key, value, lengths, heads=heads)

    def causal(self, packed: Tensor, past: Cache, past_lengths: Tensor, *, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """See ``AttentionForm``."""
        return symbolic.group_query_attention(packed, None, None, past, past_lengths, heads=heads, key_heads=heads)

    def cross(self, query: Tensor, past: Cache, lengths: Tensor, *, heads: int, key_heads: int) -> Tensor:
        """See ``AttentionForm``."""
        return symbolic.cross_attention(query, past, lengths, heads=heads, key_heads=key_heads)


class PlainAttention:
    """Products, a mask and a softmax: what the fused nodes are measured against."""

    def encoder(self, packed: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
        """See ``AttentionForm``."""
        batch, source, width = packed.shape
        query, key, value = packed.reshape(batch, source, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
        visible = torch.arange(source) < lengths[:, None]
        mixed = attend(query, key, value, visible[:, None, None, :])
        return mixed.transpose(1, 2).reshape(batch, source, width // 3)

    def causal(self, packed: Tensor, past: Cache, past_lengths: Tensor, *, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """See ``AttentionForm``."""
        rows, _, width = packed.shape
        query, key, value = packed.reshape(rows, 3, heads, 1, width // (3 * heads)).unbind(1)
        place = torch.arange(past[0].shape[2])
        here = (place == past_lengths[:, None])[:, None, :, None]
        keys, values = torch.where(here, key, past[0]), torch.where(here, value, past[1])
        visible = place <= past_lengths[:, None]
        mixed = attend(query, keys, values, visible[:, None, None, :])
        return mixed.reshape(rows, 1, width // 3), keys, values

    def cross(self, query: Tensor, past: Cache, lengths: Tensor, *, heads: int, key_heads: int) -> Tensor:
        """See ``AttentionForm``."""
        rows, _, width = query.shape
        grouped = query.reshape(rows, key_heads, heads // key_heads, width // heads)
        visible = torch.arange(past[0].shape[2]) < lengths[:, None]
        return attend(grouped, *past, visible[:, None, None, :]).reshape(rows, 1, width)


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Return softmax(query . key / sqrt(K)) . value with invisible keys left out."""
    scores = query @ key.transpose(-1, -2) * (1.0 / math.sqrt(query.shape[-1]))
    mixed: Tensor = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ value
    return mixed
