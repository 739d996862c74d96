"""What encoder and decoder layers of the graphs have in common: feed-forward networks and residuals.

Letters as in ``exporter.decoder_graph``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporter import symbolic
from exporter.blocks import FeedForward
from exporter.model_config import Activation
from exporter.node_forms import NodeForms
from exporter.products import Precision
from service.graph_names import CHUNK


def padded_vocabulary_size(size: int) -> int:
    """Return the smallest multiple of ``CHUNK`` that holds ``size`` ids."""
    return -(-size // CHUNK) * CHUNK


class FeedForwardGraph(nn.Module):
    """The two products of a feed-forward network."""

    def __init__(self, source: FeedForward, precision: Precision, nodes: NodeForms) -> None:
        super().__init__()
        self.swish = nodes.swish
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
        elif self.swish == "QuickGelu":
            inner = symbolic.swish(inner)
        else:
            inner = F.silu(inner)
        outer: Tensor = self.outer(inner)
        return outer


class Residual(nn.Module):
    """``states + branch(states)`` with the layer norm before the branch or after the sum."""

    def __init__(self, norm: nn.LayerNorm, *, pre_norm: bool, dtype: torch.dtype, nodes: NodeForms) -> None:
        super().__init__()
        self.one_node = nodes.residual == "SkipLayerNormalization"
        self.pre_norm = pre_norm
        self.norm = norm_as(norm, dtype)

    def before(self, states: Tensor) -> Tensor:
        """Return what the branch reads."""
        normed: Tensor = self.norm(states) if self.pre_norm else states
        return normed

    def after(self, states: Tensor, branch: Tensor) -> Tensor:
        """Return the residual's output."""
        if self.pre_norm:
            return states + branch
        if self.one_node and isinstance(self.norm, nn.LayerNorm):
            return symbolic.skip_layer_norm(states, branch, self.norm)
        normed: Tensor = self.norm(states + branch)
        return normed


def norm_as(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a layer norm (or identity) in ``dtype``."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    copy = nn.LayerNorm(norm.normalized_shape, eps=norm.eps)
    copy.load_state_dict(norm.state_dict())
    return copy.to(dtype)
