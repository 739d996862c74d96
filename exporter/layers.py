"""The layers of a translation model, typed: a module list gives them as plain modules."""

from __future__ import annotations

from exporter.blocks import DecoderLayer, EncoderLayer
from exporter.model import TranslationModel


def encoder_layers(model: TranslationModel) -> list[EncoderLayer]:
    """Return the encoder's layers."""
    return [layer for layer in model.encoder.layers if isinstance(layer, EncoderLayer)]


def decoder_layers(model: TranslationModel) -> list[DecoderLayer]:
    """Return the decoder's layers."""
    return [layer for layer in model.decoder.layers if isinstance(layer, DecoderLayer)]
