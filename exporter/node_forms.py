"""The nodes a graph is written with where several would compute the same: which is fastest is a matter of measuring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from exporter.attention_forms import AttentionForm, FusedAttention

SwishForm = Literal["QuickGelu", "Sigmoid, Mul"]
ResidualForm = Literal["Add, LayerNormalization", "SkipLayerNormalization"]
"""How a post-norm residual ends; a pre-norm one has its norm elsewhere and is always an ``Add``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeForms:
    """One choice of each; the defaults are what ``docs/performance.md`` found fastest on CPU."""

    attention: AttentionForm = field(default_factory=FusedAttention)
    swish: SwishForm = "QuickGelu"
    residual: ResidualForm = "Add, LayerNormalization"
