"""Every choice that fixes the shape and the arithmetic of a translation model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
