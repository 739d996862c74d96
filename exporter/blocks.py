"""The encoder and decoder stacks of the PyTorch model. Letters as in ``exporter.model``."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from exporter.attention import Attended, Attention, KeysValues, PastKeysValues
from exporter.dropout import Dropout, Randomness
from exporter.model_config import ModelConfig


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
        past: PastKeysValues | None = None,
        return_weights: bool = False,
        return_cross_weights: bool = False,
    ) -> DecoderLayerOutput:
        """Map states (B, T, D); with ``past``, T is 1, and the new position joins it and sees all of it.

        Then ``cross`` may hold fewer sentences than there are rows: as many successive rows share each.
        """
        normed = self.self_attention_norm(states) if self.pre_norm else states
        keys_values = self.self_attention.project(normed)
        if past is not None:
            keys_values = past.append(keys_values)
        mine = self.self_attention(normed, keys_values, causal=past is None, return_weights=return_weights)
        states = states + self.dropout(mine.states)
        if not self.pre_norm:
            states = self.self_attention_norm(states)
        normed = self.cross_attention_norm(states) if self.pre_norm else states
        beside = normed.reshape(cross.keys.shape[0], -1, normed.shape[-1])
        seen = self.cross_attention(
            beside, cross, mask=source_mask, return_weights=return_weights or return_cross_weights
        )
        states = states + self.dropout(seen.states.reshape(states.shape))
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
