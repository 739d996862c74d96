"""The Transformer encoder-decoder that is trained here and that also holds OPUS-MT (Marian) weights.

Shapes are written with these letters: B batch, S source positions, T target positions, D model width, H heads,
K width of a head (D / H), V vocabulary. Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; the position table and
the start token follow Marian (Junczys-Dowmunt et al. 2018, https://aclanthology.org/P18-4020).
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.dropout import Dropout, Randomness

Activation = Literal["relu", "gelu", "swish"]
Norm = Literal["pre", "post"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Every choice that fixes the shape and the arithmetic of a model; ``post`` norm with ``swish`` is OPUS-MT's."""

    vocabulary_size: int
    target_vocabulary_size: int
    d_model: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_ffn: int
    decoder_ffn: int
    activation: Activation = "relu"
    norm: Norm = "pre"
    max_positions: int = 512
    scale_embeddings: bool = True
    share_embeddings: bool = True
    tie_output: bool = True
    pad_id: int = 0
    eos_id: int = 1
    unk_id: int = 2
    decoder_start_id: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse sizes that cannot make a model.

        Raises:
            ValueError: naming the field that does not fit.
        """
        sizes = ("vocabulary_size", "target_vocabulary_size", "d_model", "heads", "encoder_layers", "decoder_layers")
        for name in (*sizes, "encoder_ffn", "decoder_ffn", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % (2 * self.heads):
            raise ValueError(f"d_model {self.d_model} must be a multiple of twice the heads ({self.heads})")
        if self.activation not in ("relu", "gelu", "swish") or self.norm not in ("pre", "post"):
            raise ValueError(f"unknown activation {self.activation!r} or norm {self.norm!r}")
        if self.share_embeddings and self.vocabulary_size != self.target_vocabulary_size:
            raise ValueError("shared embeddings need one vocabulary size for source and target")
        for name in ("pad_id", "eos_id", "unk_id", "decoder_start_id"):
            if not 0 <= getattr(self, name) < min(self.vocabulary_size, self.target_vocabulary_size):
                raise ValueError(f"{name} {getattr(self, name)} lies outside the vocabulary")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def head_size(self) -> int:
        """The width K of one attention head."""
        return self.d_model // self.heads


class KeysValues(NamedTuple):
    """Projected keys and values of one attention, each (B, H, S, K)."""

    keys: Tensor
    values: Tensor


class Attended(NamedTuple):
    """What an attention or a layer returns: states (B, T, D) and, where asked for, its weights (B, H, T, S)."""

    states: Tensor
    weights: Tensor | None


class Decoded(NamedTuple):
    """Decoder states (B, T, D) and, of the layers asked for, the cross-attention weights (B, H, T, S)."""

    states: Tensor
    cross_weights: list[Tensor]


class AttentionWeights(NamedTuple):
    """Softmax weights of every attention, one tensor (B, H, queries, keys) per layer."""

    encoder: list[Tensor]
    decoder: list[Tensor]
    cross: list[Tensor]


def sinusoidal_positions(positions: int, d_model: int) -> Tensor:
    """Return the (positions, D) table whose first half is sines and second half cosines, as Marian lays it out."""
    frequencies = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000.0) / d_model))
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def in_autocast_dtype(states: Tensor) -> Tensor:
    """Return ``states`` in the dtype of the autocast region, if there is one, so that residuals are as narrow."""
    if torch.is_autocast_enabled(states.device.type):
        return states.to(torch.get_autocast_dtype(states.device.type))
    return states


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


class FeedForward(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.activation = config.activation
        self.inner = nn.Linear(config.d_model, width)
        self.outer = nn.Linear(width, config.d_model)

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        inner = self.inner(states)
        if self.activation == "relu":
            inner = F.relu(inner)
        elif self.activation == "gelu":
            inner = F.gelu(inner)
        else:
            inner = F.silu(inner)
        outer: Tensor = self.outer(inner)
        return outer


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each in a residual with a layer norm before or after it."""

    def __init__(self, config: ModelConfig, randomness: Randomness) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.self_attention = Attention(config)
        self.self_attention_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config, config.encoder_ffn)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout, randomness)

    def forward(self, states: Tensor, mask: Tensor, *, return_weights: bool = False) -> Attended:
        """Map states (B, S, D); ``mask`` (B, 1, 1, S) is True at real tokens."""
        normed = self.self_attention_norm(states) if self.pre_norm else states
        attended = self.self_attention(
            normed, self.self_attention.project(normed), mask=mask, return_weights=return_weights
        )
        states = states + self.dropout(attended.states)
        if not self.pre_norm:
            states = self.self_attention_norm(states)
        normed = self.feed_forward_norm(states) if self.pre_norm else states
        states = states + self.dropout(self.feed_forward(normed))
        if not self.pre_norm:
            states = self.feed_forward_norm(states)
        return Attended(states, attended.weights)


class DecoderLayerOutput(NamedTuple):
    """States (B, T, D), the self-attention's keys and values so far, and the weights where they were asked for."""

    states: Tensor
    past: KeysValues
    self_weights: Tensor | None
    cross_weights: Tensor | None


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the source and a feed-forward network, each in a residual."""

    def __init__(self, config: ModelConfig, randomness: Randomness) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.self_attention = Attention(config)
        self.self_attention_norm = nn.LayerNorm(config.d_model)
        self.cross_attention = Attention(config)
        self.cross_attention_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config, config.decoder_ffn)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout, randomness)

    def forward(
        self,
        states: Tensor,
        cross: KeysValues,
        source_mask: Tensor,
        *,
        past: KeysValues | None = None,
        return_weights: bool = False,
        return_cross_weights: bool = False,
    ) -> DecoderLayerOutput:
        """Map states (B, T, D); with ``past``, T is 1 and the new position sees all that came before it."""
        normed = self.self_attention_norm(states) if self.pre_norm else states
        keys_values = self.self_attention.project(normed)
        if past is not None:
            keys_values = KeysValues(*(torch.cat(pair, dim=2) for pair in zip(past, keys_values, strict=True)))
        mine = self.self_attention(normed, keys_values, causal=past is None, return_weights=return_weights)
        states = states + self.dropout(mine.states)
        if not self.pre_norm:
            states = self.self_attention_norm(states)
        normed = self.cross_attention_norm(states) if self.pre_norm else states
        seen = self.cross_attention(
            normed, cross, mask=source_mask, return_weights=return_weights or return_cross_weights
        )
        states = states + self.dropout(seen.states)
        if not self.pre_norm:
            states = self.cross_attention_norm(states)
        normed = self.feed_forward_norm(states) if self.pre_norm else states
        states = states + self.dropout(self.feed_forward(normed))
        if not self.pre_norm:
            states = self.feed_forward_norm(states)
        return DecoderLayerOutput(states, keys_values, mine.weights, seen.weights)


class Encoder(nn.Module):
    """The stack of encoder layers; a pre-norm stack ends with a layer norm."""

    def __init__(self, config: ModelConfig, randomness: Randomness) -> None:
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(config, randomness) for _ in range(config.encoder_layers)])
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()


class Decoder(nn.Module):
    """The stack of decoder layers; a pre-norm stack ends with a layer norm."""

    def __init__(self, config: ModelConfig, randomness: Randomness) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(config, randomness) for _ in range(config.decoder_layers)])
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()


class TranslationModel(nn.Module):
    """Source ids to target logits.

    ``source_embedding`` and ``target_embedding`` are one module where ``share_embeddings``, and ``output.weight`` is
    the target embedding's where ``tie_output``: a checkpoint stores such a tensor once.
    """

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source_embedding = nn.Embedding(config.vocabulary_size, config.d_model)
        self.target_embedding = (
            self.source_embedding
            if config.share_embeddings
            else nn.Embedding(config.target_vocabulary_size, config.d_model)
        )
        self.embedding_scale = math.sqrt(config.d_model) if config.scale_embeddings else 1.0
        self.register_buffer("positions", sinusoidal_positions(config.max_positions, config.d_model), persistent=False)
        self.randomness = Randomness()
        self.encoder = Encoder(config, self.randomness)
        self.decoder = Decoder(config, self.randomness)
        self.output = nn.Linear(config.d_model, config.target_vocabulary_size, bias=False)
        self.final_logits_bias = nn.Parameter(torch.zeros(config.target_vocabulary_size))
        self.dropout = Dropout(config.dropout, self.randomness)
        self.reset_parameters()
        if config.tie_output:
            self.output.weight = self.target_embedding.weight

    def reset_parameters(self) -> None:
        """Draw fresh weights: Glorot for projections, N(0, 1/D) for embeddings, a zero embedding for padding."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5)
                with torch.no_grad():
                    module.weight[self.config.pad_id].zero_()

    def embed_source(self, source_ids: Tensor) -> Tensor:
        """Embed source ids (B, S) with their positions: (B, S, D)."""
        positions = self.positions[: source_ids.shape[1]]
        embedded: Tensor = self.source_embedding(source_ids) * self.embedding_scale + positions
        return embedded

    def embed_target(self, target_ids: Tensor, *, first_position: int = 0) -> Tensor:
        """Embed target ids (B, T), the first of which stands at ``first_position``: (B, T, D)."""
        positions = self.positions[first_position : first_position + target_ids.shape[1]]
        embedded: Tensor = self.target_embedding(target_ids) * self.embedding_scale + positions
        return embedded

    def encode(self, source_ids: Tensor, source_mask: Tensor) -> Tensor:
        """Encode ids (B, S) to states (B, S, D); ``source_mask`` (B, S) is True at real tokens."""
        states = self.dropout(in_autocast_dtype(self.embed_source(source_ids)))
        mask = source_mask[:, None, None, :]
        for layer in self.encoder.layers:
            states = layer(states, mask).states
        normed: Tensor = self.encoder.norm(states)
        return normed

    def cross_keys_values(self, memory: Tensor) -> list[KeysValues]:
        """Project encoder states (B, S, D) to each decoder layer's cross-attention keys and values."""
        layers = (cast(DecoderLayer, layer) for layer in self.decoder.layers)
        return [layer.cross_attention.project(memory) for layer in layers]

    def decode(
        self, target_ids: Tensor, memory: Tensor, source_mask: Tensor, *, weights_of: Container[int] = ()
    ) -> Decoded:
        """Decode ids (B, T), the first of them ``decoder_start_id``, to states (B, T, D), all positions at once.

        The cross-attention weights of the layers that ``weights_of`` numbers come with them.
        """
        states = self.dropout(in_autocast_dtype(self.embed_target(target_ids)))
        mask = source_mask[:, None, None, :]
        weights: list[Tensor] = []
        for index, cross in enumerate(self.cross_keys_values(memory)):
            output = self.decoder.layers[index](states, cross, mask, return_cross_weights=index in weights_of)
            states = output.states
            if index in weights_of:
                weights.append(output.cross_weights)
        return Decoded(self.decoder.norm(states), weights)

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits (..., V) of decoder states (..., D)."""
        return F.linear(states, self.output.weight, self.final_logits_bias)

    def forward(self, source_ids: Tensor, source_mask: Tensor, target_ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) that predict each token after ``target_ids`` (B, T)."""
        memory = self.encode(source_ids, source_mask)
        return self.logits(self.decode(target_ids, memory, source_mask).states)

    def attention_weights(self, source_ids: Tensor, source_mask: Tensor, target_ids: Tensor) -> AttentionWeights:
        """Return the weights of every attention while ``target_ids`` (B, T) is decoded."""
        mask = source_mask[:, None, None, :]
        collected = AttentionWeights([], [], [])
        states = self.dropout(self.embed_source(source_ids))
        for layer in self.encoder.layers:
            states, weights = layer(states, mask, return_weights=True)
            collected.encoder.append(weights)
        memory = self.encoder.norm(states)
        states = self.dropout(self.embed_target(target_ids))
        for layer, cross in zip(self.decoder.layers, self.cross_keys_values(memory), strict=True):
            output = layer(states, cross, mask, return_weights=True)
            states = output.states
            collected.decoder.append(output.self_weights)
            collected.cross.append(output.cross_weights)
        return collected

    def use_fused_attention(self, fused: bool, /) -> None:
        """Choose PyTorch's fused attention kernel, or the products one by one, for every attention."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.fused = fused

    def parameter_count(self) -> int:
        """Return the number of trainable numbers, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


@torch.inference_mode()
def greedy_decode(
    model: TranslationModel, source_ids: Tensor, source_mask: Tensor, *, max_new_tokens: int
) -> list[list[int]]:
    """Translate greedily, with cached keys and values; each answer ends with EOS, the start token left out.

    ``<pad>`` is never chosen and a row that reaches ``max_new_tokens`` is given EOS there: Hugging Face's rules with
    ``bad_words_ids=[[pad]]`` and ``forced_eos_token_id``. Source ids and mask are (B, S).
    """
    config = model.config
    mask = source_mask[:, None, None, :]
    cross = model.cross_keys_values(model.encode(source_ids, source_mask))
    past: list[KeysValues | None] = [None] * config.decoder_layers
    rows = torch.arange(source_ids.shape[0], device=source_ids.device)
    answers: list[list[int]] = [[] for _ in range(source_ids.shape[0])]
    tokens = torch.full_like(source_ids[:, :1], config.decoder_start_id)
    for position in range(min(max_new_tokens, config.max_positions)):
        states = model.embed_target(tokens, first_position=position)
        for index, layer in enumerate(model.decoder.layers):
            output = layer(states, cross[index], mask, past=past[index])
            states, past[index] = output.states, output.past
        logits = model.logits(model.decoder.norm(states))[:, 0]
        logits[:, config.pad_id] = -torch.inf
        best = logits.argmax(dim=-1)
        if position + 1 == min(max_new_tokens, config.max_positions):
            best = torch.full_like(best, config.eos_id)
        for row, token in zip(rows.tolist(), best.tolist(), strict=True):
            answers[row].append(token)
        running = best != config.eos_id
        if not bool(running.any()):
            break
        if not bool(running.all()):
            rows, best, mask = rows[running], best[running], mask[running]
            cross = [KeysValues(*(tensor[running] for tensor in pair)) for pair in cross]
            past = [pair and KeysValues(*(tensor[running] for tensor in pair)) for pair in past]
        tokens = best[:, None]
    return answers
