"""The table of precisions an export can have: what the weights are, and which provider the graphs are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from exporter.node_forms import NodeForms
from exporter.products import FloatPrecision, IntegerPrecision
from exporter.products import Precision as GraphPrecision
from exporter.quantize import Scales
from service.bundle import Precision
from service.errors import ExportError


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One row of the table; attention is one fused node each in all of them."""

    activations: torch.dtype
    integer_weights: bool
    provider: Literal["cpu", "cuda"]
    purpose: str
    nodes: NodeForms = field(default_factory=NodeForms)


PRESETS: Mapping[Precision, Preset] = {
    "fp32": Preset(
        activations=torch.float32, integer_weights=False, provider="cpu", purpose="the reference's own arithmetic"
    ),
    "int8": Preset(
        activations=torch.float32,
        integer_weights=True,
        provider="cpu",
        purpose="int8 weights per output, static uint8 activations: fastest on CPUs with VNNI, a quarter of the size",
    ),
    "fp16": Preset(
        activations=torch.float16,
        integer_weights=False,
        provider="cuda",
        purpose="half precision for GPUs, whose GroupQueryAttention takes no float32",
    ),
}


def graph_precision(precision: Precision, scales: Scales | None) -> GraphPrecision:
    """Return how the graphs of a preset store and multiply weights.

    Raises:
        ExportError: when an integer preset has no calibration.
    """
    preset = PRESETS[precision]
    if not preset.integer_weights:
        return FloatPrecision(preset.activations)
    if scales is None:
        raise ExportError(f"{precision} needs calibrated activation ranges")
    return IntegerPrecision(scales)
