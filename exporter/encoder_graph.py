"""The encoder as a torch module that traces to a bundle's encoder graph.

Letters as in ``exporter.decoder_graph``.
"""

from __future__ import annotations

from torch import Tensor, nn

from exporter.blocks import EncoderLayer
from exporter.layer_parts import FeedForwardGraph, Residual, norm_as, padded_vocabulary_size
from exporter.layers import decoder_layers, encoder_layers
from exporter.model import TranslationModel
from exporter.node_forms import NodeForms
from exporter.products import Precision, padded_rows


class EncoderLayerGraph(nn.Module):
    """One encoder layer: one product for queries, keys and values, one attention node."""

    def __init__(self, source: EncoderLayer, precision: Precision, nodes: NodeForms) -> None:
        super().__init__()
        attention, pre_norm, dtype = source.self_attention, source.pre_norm, precision.dtype
        self.form = nodes.attention
        self.heads = attention.heads
        self.query_key_value = precision.product([attention.query, attention.key, attention.value])
        self.attention_output = precision.product([attention.output])
        self.feed_forward = FeedForwardGraph(source.feed_forward, precision, nodes)
        self.attended = Residual(source.self_attention_norm, pre_norm=pre_norm, dtype=dtype, nodes=nodes)
        self.fed = Residual(source.feed_forward_norm, pre_norm=pre_norm, dtype=dtype, nodes=nodes)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Map states (B, S, D), of which the first ``lengths`` (B) positions count."""
        packed = self.query_key_value(self.attended.before(states))
        mixed = self.form.encoder(packed, lengths, heads=self.heads)
        states = self.attended.after(states, self.attention_output(mixed))
        return self.fed.after(states, self.feed_forward(self.fed.before(states)))


class EncoderGraph(nn.Module):
    """Source ids to the cross-attention keys and values of every decoder layer."""

    positions: Tensor

    def __init__(self, model: TranslationModel, precision: Precision, nodes: NodeForms) -> None:
        super().__init__()
        config = model.config
        self.heads, self.head_size = config.heads, config.head_size
        rows = padded_vocabulary_size(config.vocabulary_size)
        table = padded_rows(model.source_embedding.weight, rows)
        tied = model.output if config.share_embeddings and config.tie_output else None
        self.vocabulary = precision.vocabulary(table, scale=model.embedding_scale, projection=tied)
        self.register_buffer("positions", model.positions.to(precision.dtype))
        self.layers = nn.ModuleList([EncoderLayerGraph(layer, precision, nodes) for layer in encoder_layers(model)])
        self.norm = norm_as(model.encoder.norm, precision.dtype)
        maps: list[nn.Linear] = []
        for layer in decoder_layers(model):
            maps += [layer.cross_attention.key, layer.cross_attention.value]
        self.cross = precision.cached_product(maps)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Map ids (B, S) int64 and lengths (B) int32 to keys and values (2*L, B, H, S, K), layer by layer."""
        batch, source = input_ids.shape
        states = self.vocabulary.embed(input_ids) + self.positions[:source]
        for layer in self.layers:
            states = layer(states, lengths)
        cross: Tensor = self.cross(self.norm(states))
        return cross.reshape(batch, source, -1, self.heads, self.head_size).permute(2, 0, 3, 1, 4)
