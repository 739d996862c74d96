"""The encoder and one decode step as torch modules that trace to the graphs of a bundle.

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
from exporter.attention_forms import AttentionForm
from exporter.layers import decoder_layers, encoder_layers
from exporter.model import Activation, Attention, DecoderLayer, EncoderLayer, FeedForward, TranslationModel
from exporter.products import Precision, padded_rows
from service.graph_names import CHUNK, LANES


class AlignmentHead(NamedTuple):
    """The cross-attention head whose weights say which source token a target token translates."""

    layer: int
    head: int


def padded_vocabulary_size(size: int) -> int:
    """Return the smallest multiple of ``CHUNK`` that holds ``size`` ids."""
    return -(-size // CHUNK) * CHUNK


class FeedForwardGraph(nn.Module):
    """The two products of a feed-forward network."""

    def __init__(self, source: FeedForward, precision: Precision) -> None:
        super().__init__()
        self.activation: Activation = source.activation
        self.inner = precision.product([source.inner])
        self.outer = precision.product([source.outer])

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        inner: Tensor = self.inner(states)
        if self.activation == "relu":
            inner = F.relu(inner)
        elif self.activation == "gelu":
            inner = F.gelu(inner)
        else:
            inner = symbolic.swish(inner)
        outer: Tensor = self.outer(inner)
        return outer


class Residual(nn.Module):
    """``states + branch(states)`` with the layer norm before the branch or after the sum."""

    def __init__(self, norm: nn.LayerNorm, *, pre_norm: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.norm = norm_as(norm, dtype)

    def before(self, states: Tensor) -> Tensor:
        """Return what the branch reads."""
        normed: Tensor = self.norm(states) if self.pre_norm else states
        return normed

    def after(self, states: Tensor, branch: Tensor) -> Tensor:
        """Return the residual's output."""
        summed: Tensor = states + branch
        return summed if self.pre_norm else self.norm(summed)


def norm_as(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a layer norm (or identity) in ``dtype``."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    copy = nn.LayerNorm(norm.normalized_shape, eps=norm.eps)
    copy.load_state_dict(norm.state_dict())
    return copy.to(dtype)


class EncoderLayerGraph(nn.Module):
    """One encoder layer: one product for queries, keys and values, one attention node."""

    def __init__(self, source: EncoderLayer, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        attention, pre_norm, dtype = source.self_attention, source.pre_norm, precision.dtype
        self.form = form
        self.heads = attention.heads
        self.query_key_value = precision.product([attention.query, attention.key, attention.value])
        self.attention_output = precision.product([attention.output])
        self.feed_forward = FeedForwardGraph(source.feed_forward, precision)
        self.attended = Residual(source.self_attention_norm, pre_norm=pre_norm, dtype=dtype)
        self.fed = Residual(source.feed_forward_norm, pre_norm=pre_norm, dtype=dtype)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Map states (B, S, D), of which the first ``lengths`` (B) positions count."""
        packed = self.query_key_value(self.attended.before(states))
        mixed = self.form.encoder(packed, lengths, heads=self.heads)
        states = self.attended.after(states, self.attention_output(mixed))
        return self.fed.after(states, self.feed_forward(self.fed.before(states)))


class EncoderGraph(nn.Module):
    """Source ids to the cross-attention keys and values of every decoder layer."""

    positions: Tensor

    def __init__(self, model: TranslationModel, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        config = model.config
        self.heads, self.head_size = config.heads, config.head_size
        rows = padded_vocabulary_size(config.vocabulary_size)
        table = padded_rows(model.source_embedding.weight, rows)
        tied = model.output if config.share_embeddings and config.tie_output else None
        self.vocabulary = precision.vocabulary(table, scale=model.embedding_scale, projection=tied)
        self.register_buffer("positions", model.positions.to(precision.dtype))
        self.layers = nn.ModuleList([EncoderLayerGraph(layer, precision, form) for layer in encoder_layers(model)])
        self.norm = norm_as(model.encoder.norm, precision.dtype)
        maps: list[nn.Linear] = []
        for layer in decoder_layers(model):
            maps += [layer.cross_attention.key, layer.cross_attention.value]
        self.cross = precision.product(maps)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Map ids (B, S) int64 and lengths (B) int32 to keys and values (2*L, B, H, S, K), layer by layer."""
        batch, source = input_ids.shape
        states = self.vocabulary.embed(input_ids) + self.positions[:source]
        for layer in self.layers:
            states = layer(states, lengths)
        cross: Tensor = self.cross(self.norm(states))
        return cross.reshape(batch, source, -1, self.heads, self.head_size).permute(2, 0, 3, 1, 4)


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


class CrossAttentionGraph(nn.Module):
    """Attention of all rows to their sentences: narrow ones one by one, wide ones over one shared cache."""

    def __init__(self, source: Attention, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        self.form = form
        self.heads, self.head_size = source.heads, source.head_size
        self.query = precision.product([source.query])
        self.output = precision.product([source.output])

    def forward(self, query: Tensor, cross: Cross) -> Tensor:
        """Map projected queries (R, D) to attended states (R, D)."""
        heads, width = self.heads, self.heads * self.head_size
        pieces = query.reshape(-1, self.head_size)
        narrow_query = query.index_select(0, cross.paths.narrow)[:, None, :]
        wide_query = pieces.index_select(0, cross.paths.wide).reshape(-1, 1, LANES * width)
        narrow = self.form.cross(narrow_query, cross.narrow_cache, cross.narrow.lengths, heads=heads, key_heads=heads)
        wide = self.form.cross(wide_query, cross.wide_cache, cross.wide.lengths, heads=LANES * heads, key_heads=heads)
        mixed = torch.cat([narrow.reshape(-1, self.head_size), wide.reshape(-1, self.head_size)])
        attended: Tensor = self.output(mixed.index_select(0, cross.paths.back).reshape(-1, width))
        return attended


class LayerStep(NamedTuple):
    """States (R, D) after a layer, its cross-attention query (R, D), and its self cache with the new position."""

    states: Tensor
    query: Tensor
    cache: Cache


class DecoderLayerGraph(nn.Module):
    """One decoder layer of one step."""

    def __init__(self, source: DecoderLayer, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        attention, pre_norm, dtype = source.self_attention, source.pre_norm, precision.dtype
        self.form = form
        self.heads = attention.heads
        self.query_key_value = precision.product([attention.query, attention.key, attention.value])
        self.attention_output = precision.product([attention.output])
        self.cross = CrossAttentionGraph(source.cross_attention, precision, form)
        self.feed_forward = FeedForwardGraph(source.feed_forward, precision)
        self.attended = Residual(source.self_attention_norm, pre_norm=pre_norm, dtype=dtype)
        self.crossed = Residual(source.cross_attention_norm, pre_norm=pre_norm, dtype=dtype)
        self.fed = Residual(source.feed_forward_norm, pre_norm=pre_norm, dtype=dtype)

    def forward(self, states: Tensor, past_lengths: Tensor, cache: Cache, cross: Cross) -> LayerStep:
        """Map states (R, D) of one new position per row."""
        packed = self.query_key_value(self.attended.before(states))[:, None, :]
        mixed, keys, values = self.form.causal(packed, cache, past_lengths, heads=self.heads)
        states = self.attended.after(states, self.attention_output(mixed.reshape(-1, mixed.shape[-1])))
        query: Tensor = self.cross.query(self.crossed.before(states))
        states = self.crossed.after(states, self.cross(query, cross))
        states = self.fed.after(states, self.feed_forward(self.fed.before(states)))
        return LayerStep(states, query, (keys, values))


class Selection(NamedTuple):
    """The best ids (R, k) int64 with their log-probabilities, and all log-probabilities (R, V), after the bans."""

    top_ids: Tensor
    top_log_probs: Tensor
    log_probs: Tensor


def select(logits: Tensor, bans: Tensor, k: Tensor) -> Selection:
    """Return the ``k`` best of each row of ``logits`` (R, V), exactly, with equal ones in the order of their ids.

    The k best entries lie in the k chunks with the largest maxima (ties: the first chunk), so two small searches
    replace one over the vocabulary. The chosen chunks are put back in the order of their ids so that the second
    search's ties come out right too.
    """
    rows, size = logits.shape
    count = symbolic.positive_size(k)
    log_probs = logits.float().log_softmax(dim=-1)
    log_probs = symbolic.scatter(log_probs, bans, torch.full_like(bans[:, 0], -torch.inf, dtype=torch.float32))
    chunks = log_probs.reshape(rows, size // CHUNK, CHUNK)
    chunk_count = torch.minimum(k, torch.full_like(k, size // CHUNK))
    _, best_chunks = symbolic.top_k(chunks.amax(dim=-1), chunk_count, count)
    best_chunks, _ = symbolic.top_k(best_chunks, chunk_count, count, largest=False)
    first_chunk = torch.arange(rows)[:, None] * (size // CHUNK)
    candidates = chunks.reshape(-1, CHUNK).index_select(0, (best_chunks + first_chunk).reshape(-1))
    top_log_probs, places = symbolic.top_k(candidates.reshape(rows, -1), k, count)
    chunk_of = best_chunks.gather(1, symbolic.divide(places, CHUNK))
    return Selection(chunk_of * CHUNK + places % CHUNK, top_log_probs, log_probs)


class DecoderStepGraph(nn.Module):
    """One decode step over R rows, the search's reduction included."""

    positions: Tensor
    bias: Tensor

    def __init__(
        self, model: TranslationModel, precision: Precision, form: AttentionForm, alignment: AlignmentHead | None
    ) -> None:
        super().__init__()
        config = model.config
        self.heads, self.head_size, self.alignment = config.heads, config.head_size, alignment
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
        self.layers = nn.ModuleList([DecoderLayerGraph(layer, precision, form) for layer in decoder_layers(model)])
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
    ) -> tuple[Tensor, ...]:
        """Return the outputs in the order of ``service.graph_names.decoder_outputs``."""
        narrow, wide = Sentences(narrow_rows, narrow_lengths), Sentences(wide_rows, wide_lengths)
        paths = routes(narrow, wide, lane, heads=self.heads)
        states = self.vocabulary.embed(input_ids) + F.embedding(past_lengths, self.positions)
        caches: list[Tensor] = []
        alignment: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            cross = Cross(paths, narrow, cache_of(narrow_cross, index), wide, cache_of(wide_cross, index))
            step: LayerStep = layer(states, past_lengths, cache_of(self_caches, index), cross)
            states = step.states
            caches += step.cache
            if self.alignment is not None and self.alignment.layer == index:
                alignment.append(self.alignment_query(step.query, self.alignment.head))
        selection = select(self.projection.project(self.norm(states), self.bias), bans, k)
        return (*selection, *alignment, *caches)

    def alignment_query(self, query: Tensor, head: int) -> Tensor:
        """Return the scaled query (R, K) of one cross-attention head as float32."""
        part = query[:, head * self.head_size : (head + 1) * self.head_size].float()
        return part * (1.0 / math.sqrt(self.head_size))
