"""The encoder and one decode step as torch modules that trace to the graphs of a bundle.

Letters: B sentences of an encoder batch, S source positions, R rows (hypotheses) of a decode step, N narrow sentences (one row
each), W wide sentences (up to ``LANES`` rows each), H heads, K head size, D = H * K, L decoder layers, V padded vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter import symbolic
from exporter.attention_forms import AttentionForm
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
        attention = source.self_attention
        self.form = form
        self.heads = attention.heads
        self.query_key_value = precision.product([attention.query, attention.key, attention.value])
        self.attention_output = precision.product([attention.output])
        self.feed_forward = FeedForwardGraph(source.feed_forward, precision)
        self.attended = Residual(source.self_attention_norm, pre_norm=source.pre_norm, dtype=precision.dtype)
        self.fed = Residual(source.feed_forward_norm, pre_norm=source.pre_norm, dtype=precision.dtype)

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
        self.vocabulary = precision.vocabulary(table, scale=model.embedding_scale, projection=None)
        self.register_buffer("positions", model.positions.to(precision.dtype))
        self.layers = nn.ModuleList(
            [EncoderLayerGraph(layer, precision, form) for layer in encoder_layers(model)]
        )
        self.norm = norm_as(model.encoder.norm, precision.dtype)
        maps: list[nn.Linear] = []
        for layer in decoder_layers(model):
            maps += [layer.cross_attention.key, layer.cross_attention.value]
        self.cross = precision.product(maps)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Map ids (B, S) int64 and lengths (B) int32 to (2*L, B, H, S, K): keys and values of layer 0, then of layer 1, ..."""
        batch, source = input_ids.shape
        states = self.vocabulary.embed(input_ids) + self.positions[:source]
        for layer in self.layers:
            states = layer(states, lengths)
        cross: Tensor = self.cross(self.norm(states))
        return cross.reshape(batch, source, -1, self.heads, self.head_size).permute(2, 0, 3, 1, 4)


def encoder_layers(model: TranslationModel) -> list[EncoderLayer]:
    """The encoder's layers, typed."""
    return [layer for layer in model.encoder.layers if isinstance(layer, EncoderLayer)]


def decoder_layers(model: TranslationModel) -> list[DecoderLayer]:
    """The decoder's layers, typed."""
    return [layer for layer in model.decoder.layers if isinstance(layer, DecoderLayer)]


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


class CrossAttentionGraph(nn.Module):
    """Attention of all rows to their sentences: narrow ones row by row, wide ones over one shared copy of keys and values."""

    def __init__(self, source: Attention, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        self.form = form
        self.heads, self.head_size = source.heads, source.head_size
        self.query = precision.product([source.query])
        self.output = precision.product([source.output])

    def forward(
        self,
        query: Tensor,
        paths: Routes,
        narrow: Sentences,
        narrow_cross: tuple[Tensor, Tensor],
        wide: Sentences,
        wide_cross: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Map projected queries (R, D) to attended states (R, D)."""
        pieces = query.reshape(-1, self.head_size)
        model_width = self.heads * self.head_size
        narrow_query = query.index_select(0, paths.narrow)[:, None, :]
        narrow_mixed = self.form.cross(
            narrow_query, narrow_cross, narrow.lengths, heads=self.heads, key_heads=self.heads
        )
        wide_query = pieces.index_select(0, paths.wide).reshape(-1, 1, LANES * model_width)
        wide_mixed = self.form.cross(
            wide_query, wide_cross, wide.lengths, heads=LANES * self.heads, key_heads=self.heads
        )
        shape = (-1, self.head_size)
        mixed = torch.cat([narrow_mixed.reshape(shape), wide_mixed.reshape(shape)])
        attended: Tensor = self.output(mixed.index_select(0, paths.back).reshape(-1, model_width))
        return attended


class DecoderLayerGraph(nn.Module):
    """One decoder layer of one step."""

    def __init__(self, source: DecoderLayer, precision: Precision, form: AttentionForm) -> None:
        super().__init__()
        attention = source.self_attention
        self.form = form
        self.heads = attention.heads
        self.query_key_value = precision.product([attention.query, attention.key, attention.value])
        self.attention_output = precision.product([attention.output])
        self.cross = CrossAttentionGraph(source.cross_attention, precision, form)
        self.feed_forward = FeedForwardGraph(source.feed_forward, precision)
        self.attended = Residual(source.self_attention_norm, pre_norm=source.pre_norm, dtype=precision.dtype)
        self.crossed = Residual(source.cross_attention_norm, pre_norm=source.pre_norm, dtype=precision.dtype)
        self.fed = Residual(source.feed_forward_norm, pre_norm=source.pre_norm, dtype=precision.dtype)


class Selection(NamedTuple):
    """The best ids (R, k) int64 with their log-probabilities, and all log-probabilities (R, V), after the bans."""

    top_ids: Tensor
    top_log_probs: Tensor
    log_probs: Tensor


def select(logits: Tensor, bans: Tensor, k: Tensor) -> Selection:
    """Return the ``k`` best of each row of ``logits`` (R, V), exactly, with equal ones in the order of their ids.

    The k best entries lie in the k chunks with the largest maxima (ties: the first chunk), so two small searches replace
    one over the vocabulary. The chosen chunks are put back in the order of their ids so that the second search's ties come out
    right too.
    """
    rows, size = logits.shape
    count = k.item()
    torch._check(count >= 1)
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
            pair = slice(2 * index, 2 * index + 2)
            packed = layer.query_key_value(layer.attended.before(states))[:, None, :]
            mixed, *present = layer.form.causal(packed, tuple(self_caches[pair]), past_lengths, heads=self.heads)
            caches += present
            states = layer.attended.after(states, layer.attention_output(mixed.reshape(-1, mixed.shape[-1])))
            query = layer.cross.query(layer.crossed.before(states))
            if self.alignment is not None and self.alignment.layer == index:
                alignment.append(self.alignment_query(query, self.alignment.head))
            crossed = layer.cross(query, paths, narrow, tuple(narrow_cross[pair]), wide, tuple(wide_cross[pair]))
            states = layer.crossed.after(states, crossed)
            states = layer.fed.after(states, layer.feed_forward(layer.fed.before(states)))
        selection = select(self.projection.project(self.norm(states), self.bias), bans, k)
        return (*selection, *alignment, *caches)

    def alignment_query(self, query: Tensor, head: int) -> Tensor:
        """Return the scaled query (R, K) of one cross-attention head as float32."""
        part = query[:, head * self.head_size : (head + 1) * self.head_size]
        return part.float() * self.head_size**-0.5
