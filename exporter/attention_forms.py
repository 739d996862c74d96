"""How a graph writes its attention: as fused nodes, or unfused as products and a softmax for comparison."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from exporter import symbolic
from exporter.symbolic import Steps

Cache = tuple[Tensor, Tensor]


class AttentionForm(Protocol):
    """The three attentions of a translation model. Letters as in ``exporter.decoder_graph``.

    ``steps`` is what one step of int8 keys and values is worth, None where they are float.
    """

    def encoder(self, packed: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
        """Self-attention over packed queries, keys and values (B, S, 3*D); returns (B, S, D)."""

    def causal(
        self, packed: Tensor, past: Cache, past_lengths: Tensor, *, heads: int, steps: Steps | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Self-attention of one new position (R, 1, 3*D); returns (R, 1, D) and the caches with it written."""

    def cross(
        self, query: Tensor, past: Cache, lengths: Tensor, *, heads: int, key_heads: int, steps: Steps | None
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        """Attention of queries (R, 1, heads*K) to keys and values (R, key_heads, S, K), which come back where int8."""


class FusedAttention:
    """One node per attention."""

    def encoder(self, packed: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
        """See ``AttentionForm``."""
        query, key, value = packed.chunk(3, dim=-1)
        return symbolic.multi_head_attention(query, key, value, lengths, heads=heads)

    def causal(
        self, packed: Tensor, past: Cache, past_lengths: Tensor, *, heads: int, steps: Steps | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``AttentionForm``."""
        return symbolic.group_query_attention(
            packed, None, None, past, past_lengths, heads=heads, key_heads=heads, steps=steps
        )

    def cross(
        self, query: Tensor, past: Cache, lengths: Tensor, *, heads: int, key_heads: int, steps: Steps | None
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        """See ``AttentionForm``."""
        return symbolic.cross_attention(query, past, lengths, heads=heads, key_heads=key_heads, steps=steps)


class PlainAttention:
    """Products, a mask and a softmax: what the fused nodes are measured against."""

    def encoder(self, packed: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
        """See ``AttentionForm``."""
        batch, source, width = packed.shape
        query, key, value = packed.reshape(batch, source, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
        visible = torch.arange(source) < lengths[:, None]
        mixed = attend(query, key, value, visible[:, None, None, :])
        return mixed.transpose(1, 2).reshape(batch, source, width // 3)

    def causal(
        self, packed: Tensor, past: Cache, past_lengths: Tensor, *, heads: int, steps: Steps | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``AttentionForm``."""
        rows, _, width = packed.shape
        query, key, value = packed.reshape(rows, 3, heads, 1, width // (3 * heads)).unbind(1)
        place = torch.arange(past[0].shape[2])
        here = (place == past_lengths[:, None])[:, None, :, None]
        new = (key, value) if steps is None else (in_steps(key, steps[0]), in_steps(value, steps[1]))
        keys, values = torch.where(here, new[0], past[0]), torch.where(here, new[1], past[1])
        visible = place <= past_lengths[:, None]
        mixed = attend(query, *in_float((keys, values), steps), visible[:, None, None, :])
        return mixed.reshape(rows, 1, width // 3), keys, values

    def cross(
        self, query: Tensor, past: Cache, lengths: Tensor, *, heads: int, key_heads: int, steps: Steps | None
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        """See ``AttentionForm``."""
        rows, _, width = query.shape
        grouped = query.reshape(rows, key_heads, heads // key_heads, width // heads)
        visible = torch.arange(past[0].shape[2]) < lengths[:, None]
        mixed = attend(grouped, *in_float(past, steps), visible[:, None, None, :]).reshape(rows, 1, width)
        return (mixed,) if steps is None else (mixed, *(tensor.clone() for tensor in past))


def in_steps(states: Tensor, step: Tensor) -> Tensor:
    """Return new keys or values (R, H, 1, K) as int8."""
    scaled: Tensor = states / step.reshape(states.shape[1], 1, states.shape[3])
    return scaled.round().clamp(-128, 127).to(torch.int8)


def in_float(cache: Cache, steps: Steps | None) -> Cache:
    """Return keys and values (R, H, S, K) as numbers, whatever they are stored as."""
    if steps is None:
        return cache
    _, heads, _, size = cache[0].shape
    keys, values = (tensor.float() * step.reshape(heads, 1, size) for tensor, step in zip(cache, steps, strict=True))
    return keys, values


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Return softmax(query . key / sqrt(K)) . value with invisible keys left out."""
    scores = query @ key.transpose(-1, -2) * (1.0 / math.sqrt(query.shape[-1]))
    mixed: Tensor = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ value
    return mixed
