"""Matrix products and embedding tables in the form a graph stores them: float, or int8 weights with static scales.

Letters: N rows, I inputs, O outputs, V padded vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from exporter.symbolic import matmul_integer_to_float, quantize_linear

ZERO_POINT = 128
WEIGHT_STEPS = 127


def joined(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Return one (I, O) weight and one bias for several maps of the same input, side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears]).T.contiguous()
    if linears[0].bias is None:
        return weight, None
    return weight, torch.cat([linear.bias.detach() for linear in linears])


def quantize_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize each row of ``table`` (O, I) symmetrically to int8; return it and its scales (O)."""
    largest = table.abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / WEIGHT_STEPS, torch.ones_like(largest))
    quantized = (table / scale[:, None]).round().clamp(-WEIGHT_STEPS, WEIGHT_STEPS).to(torch.int8)
    return quantized, scale


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


class IntegerProduct(nn.Module):
    """uint8 activations with one static scale times int8 weights with a scale per output; the sum is float."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    input_scale: Tensor
    zero_point: Tensor

    def __init__(self, linears: Sequence[nn.Linear], *, largest_input: float) -> None:
        super().__init__()
        weight, bias = joined(linears)
        quantized, scale = quantize_rows(weight.T)
        self.outputs = weight.shape[1]
        self.register_buffer("weight", quantized.T.contiguous())
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias", bias)
        self.register_buffer("input_scale", torch.tensor(largest_input / WEIGHT_STEPS))
        self.register_buffer("zero_point", torch.tensor(ZERO_POINT, dtype=torch.uint8))

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        quantized = quantize_linear(states, self.input_scale, self.zero_point)
        return matmul_integer_to_float(
            quantized, self.weight, self.input_scale, self.weight_scale, self.zero_point, self.bias
        )


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
    input_scale: Tensor
    zero_point: Tensor

    def __init__(self, table: Tensor, *, scale: float, largest_input: float | None) -> None:
        super().__init__()
        quantized, row_scale = quantize_rows(table.detach())
        self.register_buffer("table", quantized)
        self.register_buffer("row_scale", row_scale)
        self.register_buffer("embedding_scale", (row_scale * scale)[:, None])
        if largest_input is not None:
            self.register_buffer("input_scale", torch.tensor(largest_input / WEIGHT_STEPS))
            self.register_buffer("zero_point", torch.tensor(ZERO_POINT, dtype=torch.uint8))

    def embed(self, ids: Tensor) -> Tensor:
        """Return the scaled rows (..., D) of ``ids``."""
        rows = torch.nn.functional.embedding(ids, self.table).float()
        return rows * torch.nn.functional.embedding(ids, self.embedding_scale)

    def project(self, states: Tensor, bias: Tensor) -> Tensor:
        """Return the logits (N, V) of ``states`` (N, D)."""
        quantized = quantize_linear(states, self.input_scale, self.zero_point)
        return matmul_integer_to_float(quantized, self.table.T, self.input_scale, self.row_scale, self.zero_point, bias)


Vocabulary = FloatVocabulary | IntegerVocabulary


class Precision(Protocol):
    """How the weights of a graph are stored and multiplied."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations, caches and attention."""

    def product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return one product for maps that share their input."""

    def vocabulary(self, table: Tensor, *, scale: float, projection: nn.Linear | None) -> Vocabulary:
        """Return the table (V, D); ``projection`` is the map it serves as, if any."""


class FloatPrecision:
    """Weights and activations in one float type."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return a float product."""
        return FloatProduct(linears, dtype=self.dtype)

    def vocabulary(self, table: Tensor, *, scale: float, projection: nn.Linear | None) -> Vocabulary:
        """Return a float table."""
        return FloatVocabulary(table, scale=scale, dtype=self.dtype)


class IntegerPrecision:
    """int8 weights with static activation scales; everything between the products stays float32."""

    dtype = torch.float32

    def __init__(self, largest_inputs: Mapping[nn.Module, float]) -> None:
        """``largest_inputs`` gives the calibrated largest absolute input of each linear map of the model."""
        self._largest_inputs = largest_inputs

    def product(self, linears: Sequence[nn.Linear]) -> nn.Module:
        """Return an integer product; maps that share their input share its scale."""
        return IntegerProduct(linears, largest_input=self._largest_inputs[linears[0]])

    def vocabulary(self, table: Tensor, *, scale: float, projection: nn.Linear | None) -> Vocabulary:
        """Return an int8 table."""
        largest = None if projection is None else self._largest_inputs[projection]
        return IntegerVocabulary(table, scale=scale, largest_input=largest)
