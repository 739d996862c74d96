"""The Transformer encoder-decoder that is trained here and that also holds OPUS-MT (Marian) weights.

Shapes are written with these letters: B batch, S source positions, T target positions, D model width, H heads,
K width of a head (D / H), V vocabulary. Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; the position table and
the start token follow Marian (Junczys-Dowmunt et al. 2018, https://aclanthology.org/P18-4020).
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter.attention import Attention, KeysValues
from exporter.blocks import Decoder, DecoderLayer, Encoder
from exporter.dropout import Dropout, Randomness
from exporter.model_config import ModelConfig


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
