"""Cross-attention of one decode step: rows of sentences with one row and with several, over caches of either kind.

Letters as in ``exporter.decoder_graph``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from exporter import symbolic
from exporter.attention import Attention
from exporter.attention_forms import AttentionForm
from exporter.products import Precision
from service.graph_names import LANES

Cache = tuple[Tensor, Tensor]
"""Keys and values (rows or sentences, H, capacity, K)."""


def cache_of(tensors: Sequence[Tensor], layer: int) -> Cache:
    """Return one layer's keys and values from the flat list in which a graph takes them."""
    return tensors[2 * layer], tensors[2 * layer + 1]


class Sentences(NamedTuple):
    """Which rows read which sentence: row indices (N) or (W, LANES) int64 and source lengths (N) or (W) int32."""

    rows: Tensor
    lengths: Tensor


class Routes(NamedTuple):
    """Indices that carry queries to their sentences and the answers back, the same in every layer."""

    narrow: Tensor
    wide: Tensor
    back: Tensor


def routes(narrow: Sentences, wide: Sentences, lane: Tensor, *, heads: int) -> Routes:
    """Return indices into pieces of one head: wide queries (W*H*LANES) and, for the way back, (R*H).

    A wide sentence's attention wants its queries ordered (head, lane), so both ways move single heads: one gather each
    instead of a gather and a transpose.
    """
    head = torch.arange(heads)
    wide_pieces = (wide.rows[:, None, :] * heads + head[None, :, None]).reshape(-1)
    narrow_count = narrow.rows.shape[0]
    inner = lane - narrow_count
    first, lane_in_sentence = symbolic.divide(inner, LANES), inner % LANES
    from_narrow = lane[:, None] * heads + head
    from_wide = narrow_count * heads + (first[:, None] * heads + head) * LANES + lane_in_sentence[:, None]
    back = torch.where((inner < 0)[:, None], from_narrow, from_wide).reshape(-1)
    return Routes(narrow.rows, wide_pieces, back)


class Cross(NamedTuple):
    """What rows attend to: sentences, one layer's keys and values of each kind, and the routes between."""

    paths: Routes
    narrow: Sentences
    narrow_cache: Cache
    wide: Sentences
    wide_cache: Cache


class CacheSteps(nn.Module):
    """What one step of int8 keys and values is worth, if they are int8."""

    key: Tensor
    value: Tensor

    def __init__(self, steps: symbolic.Steps | None) -> None:
        super().__init__()
        self.quantized = steps is not None
        if steps is not None:
            self.register_buffer("key", steps[0])
            self.register_buffer("value", steps[1])

    def forward(self) -> symbolic.Steps | None:
        """Return them."""
        return (self.key, self.value) if self.quantized else None


class Crossed(NamedTuple):
    """Attended states (R, D), and what int8 caches of sentences the operator hands back unchanged."""

    states: Tensor
    narrow_cache: tuple[Tensor, ...]
    wide_cache: tuple[Tensor, ...]


class CrossAttentionGraph(nn.Module):
    """Attention of all rows to their sentences: narrow ones one by one, wide ones over one shared cache."""

    def __init__(self, source: Attention, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        self.form = form
        self.heads, self.head_size = source.heads, source.head_size
        self.query = precision.product([source.query])
        self.output = precision.product([source.output])
        self.steps = CacheSteps(precision.cache_steps(source))

    def forward(self, query: Tensor, cross: Cross) -> Crossed:
        """Map projected queries (R, D) to attended states (R, D)."""
        heads, width = self.heads, self.heads * self.head_size
        pieces = query.reshape(-1, self.head_size)
        narrow_query = query.index_select(0, cross.paths.narrow)[:, None, :]
        wide_query = pieces.index_select(0, cross.paths.wide).reshape(-1, 1, LANES * width)
        steps = self.steps()
        narrow, *narrow_cache = self.form.cross(
            narrow_query, cross.narrow_cache, cross.narrow.lengths, heads=heads, key_heads=heads, steps=steps
        )
        wide, *wide_cache = self.form.cross(
            wide_query, cross.wide_cache, cross.wide.lengths, heads=LANES * heads, key_heads=heads, steps=steps
        )
        mixed = torch.cat([narrow.reshape(-1, self.head_size), wide.reshape(-1, self.head_size)])
        attended: Tensor = self.output(mixed.index_select(0, cross.paths.back).reshape(-1, width))
        return Crossed(attended, tuple(narrow_cache), tuple(wide_cache))
