"""One decode step as a torch module that traces to a bundle's decoder graph.

Letters: B sentences of an encoder batch, S source positions, R rows (hypotheses) of a decode step, N narrow sentences
(one row each), W wide sentences (up to ``LANES`` rows each), H heads, K head size, D = H * K, L decoder layers,
V padded vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter import symbolic
from exporter.blocks import DecoderLayer
from exporter.cross_attention_graph import (
    Cache,
    CacheSteps,
    Cross,
    CrossAttentionGraph,
    Crossed,
    Sentences,
    cache_of,
    routes,
)
from exporter.layer_parts import FeedForwardGraph, Residual, norm_as, padded_vocabulary_size
from exporter.layers import decoder_layers
from exporter.model import TranslationModel
from exporter.node_forms import NodeForms
from exporter.products import Precision, padded_rows
from exporter.selection import select


class AlignmentHead(NamedTuple):
    """A cross-attention head whose weights say which source token a target token translates."""

    layer: int
    head: int


class LayerStep(NamedTuple):
    """States (R, D) after a layer, its cross-attention query (R, D), its self cache with the new position, what
    cross-attention returns, and the step sizes that its keys and values are stored in, if they are."""

    states: Tensor
    query: Tensor
    cache: Cache
    crossed: Crossed
    cross_steps: symbolic.Steps | None


class DecoderLayerGraph(nn.Module):
    """One decoder layer of one step."""

    def __init__(self, source: DecoderLayer, precision: Precision, nodes: NodeForms) -> None:
        super().__init__()
        attention, pre_norm, dtype = source.self_attention, source.pre_norm, precision.dtype
        self.form = nodes.attention
        self.heads = attention.heads
        self.query_key_value = precision.product([attention.query, attention.key, attention.value])
        self.attention_output = precision.product([attention.output])
        self.steps = CacheSteps(precision.cache_steps(attention))
        self.cross = CrossAttentionGraph(source.cross_attention, precision, nodes.attention)
        self.feed_forward = FeedForwardGraph(source.feed_forward, precision, nodes)
        self.attended = Residual(source.self_attention_norm, pre_norm=pre_norm, dtype=dtype, nodes=nodes)
        self.crossed = Residual(source.cross_attention_norm, pre_norm=pre_norm, dtype=dtype, nodes=nodes)
        self.fed = Residual(source.feed_forward_norm, pre_norm=pre_norm, dtype=dtype, nodes=nodes)

    def forward(self, states: Tensor, past_lengths: Tensor, cache: Cache, cross: Cross) -> LayerStep:
        """Map states (R, D) of one new position per row."""
        packed = self.query_key_value(self.attended.before(states))[:, None, :]
        mixed, keys, values = self.form.causal(packed, cache, past_lengths, heads=self.heads, steps=self.steps())
        states = self.attended.after(states, self.attention_output(mixed.reshape(-1, mixed.shape[-1])))
        query: Tensor = self.cross.query(self.crossed.before(states))
        crossed: Crossed = self.cross(query, cross)
        states = self.crossed.after(states, crossed.states)
        states = self.fed.after(states, self.feed_forward(self.fed.before(states)))
        return LayerStep(states, query, (keys, values), crossed, self.cross.steps())


class DecoderStepGraph(nn.Module):
    """One decode step over R rows, the search's reduction included."""

    positions: Tensor
    bias: Tensor

    def __init__(
        self,
        model: TranslationModel,
        precision: Precision,
        nodes: NodeForms,
        alignment: Sequence[AlignmentHead],
    ) -> None:
        """``alignment`` names the heads whose queries come back, side by side."""
        super().__init__()
        config = model.config
        self.heads, self.head_size, self.alignment = config.heads, config.head_size, tuple(alignment)
        size = config.target_vocabulary_size
        rows = padded_vocabulary_size(size)
        table = padded_rows(model.target_embedding.weight, rows)
        scale = model.embedding_scale
        tied = config.tie_output
        self.vocabulary = precision.vocabulary(table, scale=scale, projection=model.output if tied else None)
        projected = table if tied else padded_rows(model.output.weight, rows)
        self.projection = (
            self.vocabulary if tied else precision.vocabulary(projected, scale=1.0, projection=model.output)
        )
        bias = F.pad(model.final_logits_bias.detach(), (0, rows - size), value=-torch.inf)
        self.register_buffer("bias", bias.to(precision.dtype))
        self.register_buffer("positions", model.positions.to(precision.dtype))
        self.layers = nn.ModuleList([DecoderLayerGraph(layer, precision, nodes) for layer in decoder_layers(model)])
        self.norm = norm_as(model.decoder.norm, precision.dtype)

    def forward(
        self,
        input_ids: Tensor,
        past_lengths: Tensor,
        self_caches: Sequence[Tensor],
        narrow_rows: Tensor,
        narrow_lengths: Tensor,
        narrow_cross: Sequence[Tensor],
        wide_rows: Tensor,
        wide_lengths: Tensor,
        wide_cross: Sequence[Tensor],
        lane: Tensor,
        bans: Tensor,
        k: Tensor,
        full_rows: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the outputs in the order of ``service.graph_names.decoder_outputs``."""
        narrow, wide = Sentences(narrow_rows, narrow_lengths), Sentences(wide_rows, wide_lengths)
        paths = routes(narrow, wide, lane, heads=self.heads)
        states = self.vocabulary.embed(input_ids) + F.embedding(past_lengths, self.positions)
        caches: list[Tensor] = []
        narrow_caches: list[Tensor] = []
        wide_caches: list[Tensor] = []
        queries: dict[AlignmentHead, Tensor] = {}
        for index, layer in enumerate(self.layers):
            cross = Cross(paths, narrow, cache_of(narrow_cross, index), wide, cache_of(wide_cross, index))
            step: LayerStep = layer(states, past_lengths, cache_of(self_caches, index), cross)
            states = step.states
            caches += step.cache
            narrow_caches += step.crossed.narrow_cache
            wide_caches += step.crossed.wide_cache
            for head in self.alignment:
                if head.layer == index:
                    queries[head] = self.alignment_query(step.query, head.head, step.cross_steps)
        selection = select(self.projection.project(self.norm(states), self.bias), bans, k, full_rows)
        side_by_side = [queries[head] for head in self.alignment]
        alignment = [torch.cat(side_by_side, dim=1)] if len(side_by_side) > 1 else side_by_side
        return (*selection, *alignment, *caches, *narrow_caches, *wide_caches)

    def alignment_query(self, query: Tensor, head: int, steps: symbolic.Steps | None) -> Tensor:
        """Return the query (R, K) of one cross-attention head as float32, scaled to meet keys as they are stored."""
        channels = slice(head * self.head_size, (head + 1) * self.head_size)
        part = query[:, channels].float() * (1.0 / math.sqrt(self.head_size))
        return part if steps is None else part * steps[0][channels]
