"""Matrix products and embedding tables in the form a graph stores them: float, or int8 weights with static scales.

Letters: N rows, I inputs, O outputs, V padded vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from exporter.attention import Attention
from exporter.quantize import ActivationScale, Scales, quantize_rows
from exporter.symbolic import Steps, matmul_integer_to_float, quantize_linear


def joined(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Return one (I, O) weight and one bias for several maps of the same input, side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears]).T.contiguous()
    if linears[0].bias is None:
        return weight, None
    return weight, torch.cat([linear.bias.detach() for linear in linears])


def padded_rows(table: Tensor, rows: int) -> Tensor:
    """Append zero rows to ``table`` until it has ``rows`` of them."""
    return torch.nn.functional.pad(table, (0, 0, 0, rows - table.shape[0]))


class FloatProduct(nn.Module):
    """``states @ weight + bias`` over the last axis."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linears: Sequence[nn.Linear], *, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = joined(linears)
        self.outputs = weight.shape[1]
        self.register_buffer("weight", weight.to(dtype))
        self.register_buffer("bias", None if bias is None else bias.to(dtype))

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        if self.bias is None:
            return states @ self.weight
        if states.dim() == 2:
            return torch.addmm(self.bias, states, self.weight)
        return states @ self.weight + self.bias


class StaticQuantizer(nn.Module):
    """Turns float inputs into uint8 with a scale that never depends on them."""

    inverse_smoothing: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: ActivationScale) -> None:
        super().__init__()
        self.register_buffer("inverse_smoothing", 1.0 / scale.smoothing)
        self.register_buffer("scale", torch.tensor(scale.scale))
        self.register_buffer("zero_point", torch.tensor(scale.zero_point, dtype=torch.uint8))

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., I) to uint8 (..., I)."""
        return quantize_linear(states * self.inverse_smoothing, self.scale, self.zero_point)


class IntegerProduct(nn.Module):
    """uint8 activations with one static scale times int8 weights with a scale per output; the sum is float."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, linears: Sequence[nn.Linear], *, scale: ActivationScale, unit: Tensor | None = None) -> None:
        """``unit`` (O) is what an output is counted in, where that is not one."""
        super().__init__()
        weight, bias = joined(linears)
        quantized, weight_scale = quantize_rows(weight.T * scale.smoothing)
        if unit is not None:
            weight_scale = weight_scale / unit
            bias = None if bias is None else bias / unit
        self.outputs = weight.shape[1]
        self.quantizer = StaticQuantizer(scale)
        self.register_buffer("weight", quantized.T.contiguous())
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("bias", bias)

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        quantizer = self.quantizer
        return matmul_integer_to_float(
            quantizer(states), self.weight, quantizer.scale, self.weight_scale, quantizer.zero_point, self.bias
        )


class CachedIntegerProduct(nn.Module):
    """An integer product whose outputs are keys and values, as int8 steps of a size of their own for each channel."""

    one: Tensor
    zero: Tensor

    def __init__(self, linears: Sequence[nn.Linear], *, scale: ActivationScale, steps: Tensor) -> None:
        """``steps`` (O) is what one step of each output is worth."""
        super().__init__()
        self.product = IntegerProduct(linears, scale=scale, unit=steps)
        self.register_buffer("one", torch.tensor(1.0))
        self.register_buffer("zero", torch.tensor(0, dtype=torch.int8))

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., I) to int8 (..., O)."""
        return quantize_linear(self.product(states), self.one, self.zero)


class FloatVocabulary(nn.Module):
    """A (V, D) table that embeds ids and, where the model ties them, projects states back to logits."""

    table: Tensor

    def __init__(self, table: Tensor, *, scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("table", table.detach().to(dtype))

    def embed(self, ids: Tensor) -> Tensor:
        """Return the scaled rows (..., D) of ``ids``."""
        return torch.nn.functional.embedding(ids, self.table) * self.scale

    def project(self, states: Tensor, bias: Tensor) -> Tensor:
        """Return the logits (N, V) of ``states`` (N, D)."""
        return torch.addmm(bias, states, self.table.T)


class IntegerVocabulary(nn.Module):
    """The same table as int8 with a scale per row, stored once for both uses."""

    table: Tensor
    row_scale: Tensor
    embedding_scale: Tensor

    def __init__(self, table: Tensor, *, scale: float, projected: ActivationScale | None) -> None:
        """``projected`` is the activation scale of the projection that uses this table, if one does."""
        super().__init__()
        smooth = table.detach() if projected is None else table.detach() * projected.smoothing
        quantized, row_scale = quantize_rows(smooth)
        self.register_buffer("table", quantized)
        self.register_buffer("row_scale", row_scale)
        self.register_buffer("embedding_scale", (row_scale * scale)[:, None])
        self.quantizer = None if projected is None else StaticQuantizer(projected)

    def embed(self, ids: Tensor) -> Tensor:
        """Return the scaled rows (..., D) of ``ids``."""
        rows = torch.nn.functional.embedding(ids, self.table).float()
        rows = rows * torch.nn.functional.embedding(ids, self.embedding_scale)
        return rows if self.quantizer is None else rows * self.quantizer.inverse_smoothing

    def project(self, states: Tensor, bias: Tensor) -> Tensor:
        """Return the logits (N, V) of ``states`` (N, D)."""
        quantizer = self.quantizer
        if quantizer is None:
            raise RuntimeError("a table without an activation scale cannot project: this is a bug")
        return matmul_integer_to_float(
            quantizer(states), self.table.T, quantizer.scale, self.row_scale, quantizer.zero_point, bias
        )


Vocabulary = FloatVocabulary | IntegerVocabulary


class Precision(Protocol):
    """How the weights of a graph are stored and multiplied."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations and attention."""

    @property
    def cache_dtype(self) -> torch.dtype:
        """The type of the keys and values that are kept."""

    def product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return one product for maps that share their input."""

    def cached_product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return one product for maps to keys and values, in the type in which they are kept."""

    def cache_steps(self, attention: Attention) -> Steps | None:
        """Return what one step of an attention's int8 keys and values is worth; None where they are float."""

    def vocabulary(self, table: Tensor, *, scale: float, projection: nn.Linear | None) -> Vocabulary:
        """Return the table (V, D); ``projection`` is the map that is tied to it, if one is."""


class FloatPrecision:
    """Weights and activations in one float type."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = self.cache_dtype = dtype

    def product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return a float product."""
        return FloatProduct(linears, dtype=self.dtype)

    def cached_product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return a float product."""
        return self.product(linears)

    def cache_steps(self, attention: Attention) -> None:
        """Return None: keys and values are float."""

    def vocabulary(self, table: Tensor, *, scale: float, projection: nn.Linear | None) -> Vocabulary:
        """Return a float table."""
        return FloatVocabulary(table, scale=scale, dtype=self.dtype)


class IntegerPrecision:
    """int8 weights with static activation scales, int8 keys and values; all else between the products is float32."""

    dtype, cache_dtype = torch.float32, torch.int8

    def __init__(self, scales: Scales) -> None:
        self._scales = scales

    def product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return an integer product; maps that share their input share its scale."""
        return IntegerProduct(linears, scale=self._scales.products[linears[0]])

    def cached_product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return an integer product with int8 outputs."""
        steps = torch.cat([self._scales.caches[linear] for linear in linears])
        return CachedIntegerProduct(linears, scale=self._scales.products[linears[0]], steps=steps)

    def cache_steps(self, attention: Attention) -> Steps:
        """Return the calibrated steps."""
        return self._scales.caches[attention.key], self._scales.caches[attention.value]

    def vocabulary(self, table: Tensor, *, scale: float, projection: nn.Linear | None) -> Vocabulary:
        """Return an int8 table."""
        projected = None if projection is None else self._scales.products[projection]
        return IntegerVocabulary(table, scale=scale, projected=projected)
